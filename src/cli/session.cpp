#include "cli/session.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <sched.h>

#include <spdlog/spdlog.h>

#include "base/progress.h"
#include "comm/nccl.h"
#include "comm/staged.h"
#include "comm/watched.h"
#include "kernels/cuda/device.h"

namespace cake {
namespace {

int usable_processors() {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? std::max(CPU_COUNT(&set), 1) : 1;
}

// Ranks that share this rank's memory: a GPU's, or all of the host.
int ranks_here(const Backend& dev, const World& world) {
    const DeviceInfo device = dev.info();
    return device.own_memory ? device.ranks : world.local_size();
}

// What libraries take of a GPU for a rank.
std::size_t library_bytes(const PlanInput& plan, const Backend& dev) {
    return dev.info().own_memory ? gpu_library_bytes(plan) : 0;
}

// A sum over the ranks that share this rank's memory, and what libraries take for them.
std::size_t bytes_here(const PlanInput& plan, const Backend& dev, const World& world,
                       const std::function<std::size_t(const RankPlan&)>& bytes) {
    const auto here = std::size_t(ranks_here(dev, world));
    const std::size_t libraries = here * library_bytes(plan, dev);
    if (int(here) != world.size())  // which ranks are here is not known; they are much alike
        return here * bytes(plan_rank(plan, world.rank() % plan.ranks)) + libraries;
    std::size_t sum = 0;
    for (int r = 0; r < plan.ranks; ++r)  // shares differ
        sum += bytes(plan_rank(plan, r));
    return sum * std::size_t(world.size() / plan.ranks) + libraries;
}

}  // namespace

void check_types(const RunConfig& config, const ComputeTypes& types) {
    const std::string& residual = config.engine.residual_dtype;
    if (residual != "auto" && residual != name(types.activation))
        throw usage_error(
            "engine.residual_dtype is {}, and this backend computes in {}: leave it at auto",
            residual, name(types.activation));
}

void check_one_replica(const RunConfig& config, int ranks) {
    if (config.parallel.tensor != "all" && config.parallel.tensor != std::to_string(ranks))
        throw usage_error(
            "parallel.tensor is {}, and this command shards one model over all {} ranks: leave it "
            "at all",
            config.parallel.tensor, ranks);
    if (config.parallel.data != "auto" && config.parallel.data != "1")
        throw usage_error(
            "parallel.data is {}, and this command runs one replica: leave it at auto",
            config.parallel.data);
    if (config.engine.kv_bytes != "auto")
        throw usage_error(
            "engine.kv_bytes is {}; this command sizes the cache by its plan: leave it at auto",
            config.engine.kv_bytes);
}

int replica_ranks(const RunConfig& config, int ranks) {
    const int tensor = int(number_in(config.parallel.tensor).value_or(ranks));
    if (tensor < 1 || ranks % tensor != 0)
        throw usage_error(
            "parallel.tensor is {}, and {} ranks do not form replicas of {}: start a multiple of "
            "it",
            tensor, ranks, tensor);
    if (config.parallel.data != "auto" && number_in(config.parallel.data) != ranks / tensor)
        throw usage_error(
            "parallel.data is {}, and {} ranks in replicas of {} are {} replicas: leave it at auto",
            config.parallel.data, ranks, tensor, ranks / tensor);
    return tensor;
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

GpuSurvey find_gpus(const RunConfig& config, World& world) {
    if (config.backend == "cpu")
        return {};
    const gpu::DeviceCount devices = gpu::count_devices();
    VisibleGpus mine{{}, devices.reason};
    for (int i = 0; i < devices.count; ++i)
        mine.bus_ids.push_back(gpu::device_properties(i).bus_id);
    const GpuSurvey survey = survey_gpus(world.comm(), world.local_comm(), mine);
    if (config.backend == "auto" && survey.somewhere && !survey.everywhere && world.rank() == 0)
        spdlog::warn("some ranks see a GPU and others none: all compute on the CPU");
    return survey;
}

std::unique_ptr<Backend> make_backend(const RunConfig& config, const GpuSurvey& gpus,
                                      const World& world) {
    const auto gpu = choose_gpu(config.backend, config.engine.share_gpu, gpus, world.local_rank());
    if (gpu)
        return make_cuda_backend(*gpu,
                                 ranks_on_gpu(config.engine.share_gpu, gpus, world.local_rank()));
    const std::string& threads = config.engine.threads;
    return make_cpu_backend(threads == "auto"
                                ? std::max(usable_processors() / world.local_size(), 1)
                                : int(*number_in(threads)));
}

bool speaks_nccl(const RunConfig& config, const Backend& dev, int ranks) {
    const bool may_share = config.engine.share_gpu && !nccl_shares_gpus();
    return dev.info().own_memory && ranks > 1 && !may_share && !nccl_version().empty();
}

std::unique_ptr<Communicator> make_group(const RunConfig& config, World& world, Backend& dev,
                                         int color) {
    std::unique_ptr<Communicator> host = world.comm().split(color);
    if (!dev.info().own_memory)
        return host;
    if (speaks_nccl(config, dev, host->size())) {
        Watchdog& watchdog = *world.watchdog();
        Watchdog::Group& ranks = watchdog.group(world_ranks(*host, world.rank()));
        watchdog.looks_at_device(ranks);
        const auto while_waiting = [&dev, &watchdog, &ranks](std::function<void()> look) {
            return cuda_while_waiting(dev, [&watchdog, &ranks, look = std::move(look)] {
                watchdog.looks_at_device(ranks);
                look();
            });
        };
        const double start_s = Watchdog::kLoadFactor * config.comm.timeout_s;
        return make_nccl_communicator(
            std::move(host),
            {.cuda_stream = [&dev](Stream s) { return cuda_queue(dev, s); },
             .while_waiting = while_waiting,
             .start_within = std::chrono::milliseconds(std::int64_t(1e3 * start_s))});
    }
    if (host->size() > 1 && nccl_version().empty() && !config.engine.share_gpu && world.rank() == 0)
        spdlog::warn("this build has no NCCL: what GPUs exchange passes through the host");
    return make_staged_communicator(
        std::move(host),
        {.pinned = [&dev](std::size_t bytes) { return dev.allocate(bytes, Place::Pinned); },
         .copy = [&dev](Stream s, View to, View from) { dev.copy(s, to, from); },
         .synchronize = [&dev](Stream s) { dev.synchronize(s); }});
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
    return std::min(new_tokens,
                    model.max_positions - prompt + 1);  // the last token needs no position
}

void check_memory(const PlanInput& plan, Backend& dev, const World& world) {
    const RankPlan p = plan_rank(plan, world.rank() % plan.ranks);
    const std::size_t free = dev.info().free_bytes;
    const std::size_t needed = bytes_needed(plan, dev, world);
    if (needed <= free)
        return;
    const DeviceInfo device = dev.info();
    const auto h = [](std::size_t bytes) { return human_bytes(double(bytes)); };
    const std::string parts = fmt::format(
        "A rank takes: weights {}, residual stream {}, one uncut layer {}, kept cache {}, "
        "workspace {}, logits {}",
        h(p.weights), h(p.residual), h(p.uncut_layer), h(p.kept_cache), h(p.workspace),
        h(p.logits));
    if (device.own_memory)
        throw usage_error(
            "rank {}: {} {}, and {} of {} is free on its GPU ({}). {}, work of "
            "kernels {}, tables {}; libraries about {} beside. Take more GPUs, a shorter prompt, a "
            "smaller policy.cache_size or engine.prefill_chunk, or end what else runs there; `cake "
            "plan --backend cuda` shows what fits",
            world.rank(),
            device.ranks == 1 ? "it needs"
                              : fmt::format("the {} ranks that share its GPU need", device.ranks),
            h(needed), h(free), h(device.memory_bytes), device.name, parts, h(p.kernel_work),
            h(p.tables), h(library_bytes(plan, dev)));
    throw usage_error(
        "the ranks of this host ({}) need {}, and {} is free. {}. Take more hosts, a shorter "
        "prompt, a smaller policy.cache_size, or narrower weights (model.dtype auto or bf16); "
        "`cake plan` shows what fits",
        world.local_size(), h(needed), h(free), parts);
}

std::size_t bytes_needed(const PlanInput& plan, const Backend& dev, const World& world) {
    return bytes_here(plan, dev, world, &RankPlan::total);
}

bool fits_without_pool(const PlanInput& plan, Backend& dev, const World& world) {
    return bytes_here(plan, dev, world, &RankPlan::without_pool) <= dev.info().free_bytes;
}

void fit_pool(PlanInput& plan, const RunConfig& config, Backend& dev, World& world) {
    if (config.engine.kv_bytes != "auto") {
        plan.kv_bytes = std::size_t(*number_in(config.engine.kv_bytes));
        return;
    }
    std::size_t wanted = 0;
    for (int r = 0; r < plan.ranks; ++r)
        wanted = std::max(wanted, plan_rank(plan, r).kept_cache);
    const std::size_t free = dev.info().free_bytes;
    const std::size_t rest = bytes_here(plan, dev, world, &RankPlan::without_pool);
    std::size_t room = (free - std::min(free, rest)) / std::size_t(ranks_here(dev, world)) / 10 * 9;
    for (const std::string& theirs : world.comm().gather_strings(std::to_string(room)))
        room = std::min(room, std::size_t(std::stoull(theirs)));
    if (wanted > room)
        plan.kv_bytes = std::max<std::size_t>(room, 1);
}

std::unique_ptr<Engine> load_engine(CommandContext& context, Backend& dev, Communicator& group,
                                    const RunConfig& config, const PlanInput& plan, bool quiet,
                                    std::optional<std::uint64_t> random) {
    RankStatus& status = context.world.status();
    status.at(RunPart::Load);
    // Files that one host lacks are noticed before any rank reads for minutes.
    std::optional<Checkpoint> checkpoint;
    context.world.agree([&] {
        checkpoint =
            random ? random_checkpoint(plan.model, *random) : Checkpoint::open(config.model.path);
        check_tensors(*checkpoint, plan.model);
    });
    std::unique_ptr<Engine> engine;
    context.world.agree([&] {
        Progress bar("load, layers", plan.model.n_layers, !quiet && context.world.rank() == 0);
        engine = std::make_unique<Engine>(
            dev, group, *checkpoint, plan,
            [&](int layers) {
                status.at(RunPart::Load, layers - 1);
                bar.update(layers);
            },
            &status);
    });
    spdlog::debug("loaded in {:.2f} s: {} of weights on {}", engine->load_seconds(),
                  human_bytes(double(engine->model().weight_bytes())), dev.info().name);
    // What each half of a block sums over ranks.
    const Rank rank{dev, group, nullptr};
    std::vector<Stream> streams{rank.stream};
    if (workspace_size(plan).overlap)
        streams.push_back(rank.wire);
    for (Tensor* sums : {&engine->workspace().delta, &engine->workspace().other_delta}) {
        Buffer memory = nccl_symmetric_memory(group, streams, sums->bytes());
        if (memory.data())
            *sums = Tensor(std::move(memory), sums->dtype(), sums->shape());
    }
    return engine;
}

}  // namespace cake
