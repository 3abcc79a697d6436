#include "cli/bench_inputs.h"

#include <algorithm>
#include <random>

#include "bench/study.h"
#include "cli/prompt.h"

namespace cake {

using nlohmann::json;

Prompts::Prompts(World& world, const RunConfig& config, int vocabulary)
    : seed_(std::uint64_t(config.bench.seed)), vocabulary_(vocabulary) {
    world.agree([&] {
        if (config.bench.text.empty() || world.rank() != 0)
            return;
        const Tokenizer tokenizer = load_tokenizer(config.model.path);
        check_vocabulary(tokenizer, vocabulary, config.model.path);
        text_ = tokenizer.encode(read_text_file(config.bench.text), true);
        if (text_.empty())
            throw usage_error("{}: the text is empty", config.bench.text);
    });
    broadcast_vector(world.comm(), text_);
}

std::vector<TokenId> Prompts::operator()(int length) const {
    std::vector<TokenId> out;
    std::mt19937_64 random(seed_);
    for (int i = 0; i < length; ++i)
        out.push_back(text_.empty() ? TokenId(random() % std::uint64_t(vocabulary_))
                                    : text_[std::size_t(i) % text_.size()]);
    return out;
}

SweepPlan plan_sweep(World& world, const RunConfig& config, const ModelConfig& model,
                     Backend& dev) {
    SweepPlan out;
    out.prompts = config.bench.prompts;
    std::sort(out.prompts.begin(), out.prompts.end());
    const int new_tokens =
        *std::max_element(config.bench.new_tokens.begin(), config.bench.new_tokens.end());
    for (; !out.prompts.empty(); out.prompts.pop_back()) {
        const int longest = out.prompts.back();
        out.plan = study_plan(config, model, world.size(), longest, dev.types());
        out.plan.overlap = speaks_nccl(config, dev, out.plan.ranks);
        const std::size_t needed = bytes_needed(out.plan, dev, world), free = dev.info().free_bytes;
        const bool fits = needed <= free && longest + new_tokens <= model.max_positions;
        const auto all = world.comm().gather_strings(fits ? "" : "no");
        if (std::all_of(all.begin(), all.end(), [](const auto& no) { return no.empty(); }))
            break;
        for (const Policy& policy : out.plan.policies)
            out.misfits.push_back(
                {{"kind", "cell"},
                 {"policy", policy.name},
                 {"cache_size", policy.cache_size},
                 {"prompt_tokens", longest},
                 {"batch", out.plan.batch},
                 {"new_tokens", new_tokens},
                 {"fits", false},
                 {"id", row_id({policy, longest, out.plan.batch, new_tokens}, -1)},
                 {"plan",
                  {{"needed_bytes", needed},
                   {"free_bytes", free},
                   {"context", model.max_positions}}}});
    }
    return out;
}

PlanInput plan_trace(World& world, const RunConfig& config, const ModelConfig& model, Backend& dev,
                     const std::vector<TraceRequest>& trace) {
    int longest = 1, output_tokens = 1;
    for (const TraceRequest& r : trace) {
        longest = std::max(longest, r.input);
        output_tokens = std::max(output_tokens, r.output);
    }
    PlanInput plan = plan_input(config, model, world.size(), longest, output_tokens, dev.types());
    plan.overlap = speaks_nccl(config, dev, plan.ranks);
    plan.shorter = true;
    plan.batch = config.engine.max_batch;
    world.agree([&] {
        for (const TraceRequest& r : trace)
            if (fit_context(model, r.input, r.output) < r.output)
                throw usage_error(
                    "{}: a request of {} + {} tokens exceeds the model's context of {}: give a "
                    "smaller --length-scale",
                    config.bench.requests, r.input, r.output, model.max_positions);
        check_memory(plan, dev, world);
    });
    return plan;
}

}  // namespace cake
