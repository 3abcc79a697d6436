// One prefill for the full cache and all policies, then all of them step through the text's own tokens.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "config/run_config.h"
#include "engine/engine.h"
#include "eval/fidelity.h"

namespace cake {

// The full cache first, then every listed policy with every cache size (list_policies). Usage errors: as there.
std::vector<Policy> fidelity_policies(const RunConfig& config, const ModelConfig& model);

// Indices of policies that step as one batch: those whose decoding differs in budgets alone. The full cache's group is the
// first, and it is the first of it.
std::vector<std::vector<std::size_t>> step_groups(std::span<const Policy> policies);

// Memory for prompts of up to `prompt` tokens: a cache for each policy, the full one among them, all at once.
PlanInput fidelity_plan(const RunConfig& config, const ModelConfig& model, int ranks, int prompt,
                        const ComputeTypes& types = {});

struct FidelityOptions {
    int positions = 1;
    bool check = false;                            // PrefillOptions::check
    std::function<bool()> stopped = {};            // on rank 0, asked at each layer and step
    std::function<void(int steps)> progress = {};  // layers of the prompt and positions so far
};

// The first `prompt` of the tokens pass in prefill; then tokens[prompt], tokens[prompt + 1], ... go in, whatever was
// predicted, and each step's prediction is that of the token after it. `tokens`: at least prompt + positions + 1.
// `policies`: of fidelity_policies. Whole on rank 0, without the text's name; nothing: stopped. Collective.
std::optional<TextFidelity> measure_fidelity(Engine& engine, std::span<const TokenId> tokens,
                                             int prompt, const std::vector<Policy>& policies,
                                             const FidelityOptions& options);

}  // namespace cake
