// Runs a model end to end for tests: one prefill for several policies, then decoding of each in turn.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "engine/decode.h"
#include "engine/plan.h"
#include "engine/prefill.h"
#include "support/golden.h"

namespace cake::test {

struct RunSettings {
    std::string model;  // folder or .gguf
    std::vector<Policy> policies;
    std::vector<TokenId> prompt;
    int new_tokens = 1;
    // By policy: what decoding is given in place of its own tokens, new_tokens of each. Empty: its own.
    std::vector<std::vector<TokenId>> answers = {};
    int chunk = 64;
    int page_tokens = 0;
    int threads = 1;
    WeightTypes weights;
    DType cache = DType::F32;
    // Empty: the CPU. Else all is of the types that the backend has.
    std::function<std::unique_ptr<Backend>()> backend = {};
    // How ranks then exchange data. Empty: through the host.
    std::function<std::unique_ptr<Communicator>(std::unique_ptr<Communicator>, Backend&)> connect =
        {};
    bool overlap = false;  // PlanInput::overlap
};

// Of one policy, the same on every rank.
struct RunOutcome {
    std::vector<TokenId> tokens;             // the likeliest after those before
    std::vector<std::vector<float>> logits;  // [new_tokens][vocab]; row t gave tokens[t]
    std::vector<std::optional<LayerPreference>> seen;
    std::vector<int> budgets;  // what decoding keeps to
    std::vector<int> kept;     // tokens by layer after prefill, window included
    Positions prefill, final;  // [layer][KV head of the model][...], ascending
    bool evicted = false;
    std::int64_t pages_planned = 0, pages_peak = 0, pages_left = 0;  // of this rank
};

// Collective.
std::vector<RunOutcome> run_model(Communicator& comm, const RunSettings& settings);
// On `ranks` threads; rank 0's outcome, after a check that all ranks' are equal.
std::vector<RunOutcome> run_model(int ranks, const RunSettings& settings);

// The policy of a run of the official code, as its index.json records it.
Policy golden_policy(const nlohmann::json& index, const nlohmann::json& run);
Policy full_policy();

}  // namespace cake::test
