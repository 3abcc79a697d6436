#include "cli/session.h"

#include <algorithm>
#include <optional>
#include <sched.h>

#include <spdlog/spdlog.h>

#include "base/progress.h"

namespace cake {
namespace {

int usable_processors() {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? std::max(CPU_COUNT(&set), 1) : 1;
}

}  // namespace

void check_supported(const RunConfig& config, int ranks) {
    if (config.parallel.tensor != "all" && config.parallel.tensor != std::to_string(ranks))
        throw usage_error(
            "parallel.tensor is {}, and this command shards one model over all {} ranks: leave it "
            "at all",
            config.parallel.tensor, ranks);
    if (config.parallel.data != "auto" && config.parallel.data != "1")
        throw usage_error(
            "parallel.data is {}, and this command runs one replica: leave it at auto",
            config.parallel.data);
    if (config.engine.residual_dtype == "bf16")
        throw usage_error(
            "engine.residual_dtype is bf16; the CPU backend computes in f32: leave it at auto");
    if (config.engine.kv_bytes != "auto")
        throw usage_error(
            "engine.kv_bytes is {}; this command sizes the cache by its plan: leave it at auto",
            config.engine.kv_bytes);
}

ModelConfig read_model(const RunConfig& config) {
    if (config.model.path.empty())
        throw usage_error(
            "a model is missing: give --model PATH, a Hugging Face folder or a .gguf file");
    ModelConfig model = read_model_config(config.model.path);
    if (config.model.layers > model.n_layers)
        throw usage_error("model.layers is {}, the model has {}", config.model.layers,
                          model.n_layers);
    if (config.model.layers > 0)
        model.n_layers = config.model.layers;
    return model;
}

std::unique_ptr<Backend> make_backend(const RunConfig& config, const World& world) {
    if (config.backend == "cuda")
        return make_cuda_backend(world.local_rank());
    const std::string& threads = config.engine.threads;
    return make_cpu_backend(threads == "auto"
                                ? std::max(usable_processors() / world.local_size(), 1)
                                : int(*number_in(threads)));
}

Sampling sampling_of(const RunConfig& config) {
    const auto& g = config.generation;
    return {.temperature = g.temperature,
            .top_p = g.top_p,
            .seed = std::uint64_t(g.seed),
            .top_k = g.top_k,
            .min_p = g.min_p,
            .repetition_penalty = g.repetition_penalty,
            .logprobs = g.logprobs};
}

int fit_context(const ModelConfig& model, int prompt, int new_tokens) {
    if (prompt < 1)
        throw usage_error("the prompt is empty");
    if (prompt > model.max_positions)
        throw usage_error(
            "the prompt has {} tokens, the model's context {}: shorten the prompt, or take a model "
            "with a "
            "longer context",
            prompt, model.max_positions);
    if (model.sliding_window > 0 && prompt + new_tokens > model.sliding_window)
        throw usage_error(
            "prompt and answer have {} tokens, and beyond {} this model attends through a sliding "
            "window, "
            "which is not supported: shorten them",
            prompt + new_tokens, model.sliding_window);
    const int room = model.max_positions - prompt + 1;  // the last token needs no position
    if (new_tokens > room) {
        spdlog::warn(
            "prompt and answer exceed the model's context of {} tokens: at most {} new tokens "
            "instead of {}",
            model.max_positions, room, new_tokens);
        return room;
    }
    return new_tokens;
}

void check_memory(const PlanInput& plan, Backend& dev, const World& world) {
    const RankPlan p = plan_rank(plan, world.rank());
    const std::size_t free = dev.info().free_bytes;
    std::size_t needed = p.total() * std::size_t(world.local_size());
    if (world.local_size() == world.size()) {  // shares differ
        needed = 0;
        for (int r = 0; r < world.size(); ++r)
            needed += plan_rank(plan, r).total();
    }
    if (needed <= free)
        return;
    throw usage_error(
        "the ranks of this host ({}) need {}, and {} is free. A rank takes: weights {}, residual "
        "stream {}, "
        "one uncut layer {}, kept cache {}, workspace {}, logits {}. Take more hosts, a shorter "
        "prompt, a "
        "smaller policy.cache_size, or model.dtype bf16; `cake plan` shows what fits",
        world.local_size(), human_bytes(double(needed)), human_bytes(double(free)),
        human_bytes(double(p.weights)), human_bytes(double(p.residual)),
        human_bytes(double(p.uncut_layer)), human_bytes(double(p.kept_cache)),
        human_bytes(double(p.workspace)), human_bytes(double(p.logits)));
}

std::unique_ptr<Engine> load_engine(CommandContext& context, Backend& dev, const RunConfig& config,
                                    const PlanInput& plan, bool quiet) {
    context.phase = "load";
    // Files that one host lacks are noticed before any rank reads for minutes.
    std::optional<Checkpoint> checkpoint;
    context.world.agree([&] {
        checkpoint = Checkpoint::open(config.model.path);
        check_tensors(*checkpoint, plan.model);
    });
    std::unique_ptr<Engine> engine;
    context.world.agree([&] {
        Progress bar("load, layers", plan.model.n_layers, !quiet && context.world.rank() == 0);
        engine = std::make_unique<Engine>(dev, context.world.comm(), *checkpoint, plan,
                                          [&](int layers) { bar.update(layers); });
    });
    return engine;
}

}  // namespace cake
