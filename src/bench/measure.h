// One prefill for several policies, then decoding from copies of what each kept.
#pragma once

#include <nlohmann/json.hpp>

#include "bench/study.h"
#include "engine/engine.h"

namespace cake {

// What a policy kept of a prompt, and what the prefill took. Collective, as all here.
struct Prefilled {
    Policy policy;
    std::vector<int> budgets;  // what decoding keeps to, by layer
    SequenceCache cache;
    PhaseTimes times;       // of this policy, as if it had been alone
    std::size_t pages = 0;  // most that it held at any time
    TokenId first = 0;      // the best token after the prompt
};

// The prompt passes once. Layers and attention count for every policy; statistics, selection and storing are each
// policy's own: none profits from what another has computed.
std::vector<Prefilled> measure_prefill(Engine& engine, std::span<const TokenId> prompt,
                                       const std::vector<Policy>& policies);

struct DecodeMeasure {
    PhaseTimes times;
    double bytes = 0;  // weights and caches that this rank read, all steps
};

// Steps before those that count: on a GPU the second is captured (engine/captured_steps.h).
inline constexpr int kUncountedSteps = 2;

// `batch` sequences with copies of one cache take `new_tokens` steps, each from the token of the last, after those that do
// not count. Sequence i samples with the seed sampling.seed + i. Usage error: sampling that needs all logits on the host.
DecodeMeasure measure_decode(Engine& engine, const Prefilled& from, int prompt_tokens, int batch,
                             int new_tokens, const Sampling& sampling = {});

// Ceilings of all ranks, measured at the same time: the sums. `alone`: this rank's part. Before a model is loaded: what it
// works in is not planned.
Ceilings measure_ceilings(Backend& dev, Communicator& comm, Ceilings& alone);

// How tokens are drawn, for a row; null where each is the best one.
nlohmann::json sampling_json(const Sampling& sampling);

// A row of bench.jsonl (docs/interface.md), whole on rank 0.
nlohmann::json bench_row(Engine& engine, const BenchCell& cell, const Prefilled& prefill,
                         const DecodeMeasure& decode, const Ceilings& all, const Ceilings& alone);

}  // namespace cake
