#include "bench/study.h"

#include <algorithm>

#include "bench/measure.h"
#include "policy/policy_list.h"

namespace cake {

std::vector<Policy> study_policies(const RunConfig& config, const ModelConfig& model) {
    std::vector<Policy> out;
    for (const ListedPolicy& p :
         list_policies(config.policy, config.bench.policies, config.bench.cache_sizes, model))
        out.push_back(p.policy);
    return out;
}

std::vector<std::vector<Policy>> prefill_groups(const std::vector<Policy>& policies) {
    std::vector<std::vector<Policy>> out(1);
    for (const Policy& p : policies) {
        if (p.observe == Observe::All)
            out.push_back({p});
        else
            out.front().push_back(p);
    }
    if (out.front().empty())
        out.erase(out.begin());
    return out;
}

std::string row_id(const BenchCell& cell, int repetition) {
    const std::string policy = cell.policy.keeps_everything()
                                   ? cell.policy.name
                                   : fmt::format("{}-{}", cell.policy.name, cell.policy.cache_size);
    return fmt::format("p{}/{}/b{}/n{}/{}", cell.prompt, policy, cell.batch, cell.new_tokens,
                       repetition);
}

PlanInput study_plan(const RunConfig& config, const ModelConfig& model, int ranks, int prompt,
                     const ComputeTypes& types) {
    const auto largest = [](const std::vector<int>& values) {
        return *std::max_element(values.begin(), values.end());
    };
    // Steps before the clock starts take a token each too.
    PlanInput plan = plan_input(config, model, ranks, prompt,
                                largest(config.bench.new_tokens) + kUncountedSteps, types);
    plan.policies = study_policies(config, model);
    plan.batch = largest(config.bench.batches);
    plan.shorter = true;
    std::int64_t pages = 0, copies = 0;
    std::size_t page = 0;
    for (int r = 0; r < ranks; ++r)
        page = std::max(page, page_layout(plan, shard_of(model, ranks, r)).bytes());
    const PageLayout layout = page_layout(plan, shard_of(model, ranks, 0));
    for (const Policy& p : plan.policies) {
        std::int64_t needed = 0;  // a prompt that just stays whole may need more than a longer one
        for (int length : {prompt, p.evicts(prompt) ? p.longest_whole() : prompt})
            needed =
                std::max(needed, pages_needed(p, model.n_layers, length, plan.new_tokens, layout));
        pages += needed;
        copies = std::max(copies, needed);
    }
    plan.kv_bytes = std::size_t(pages + plan.batch * copies) * page;
    return plan;
}

}  // namespace cake
