// Runs of the engine held against captures of the official code.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "support/golden.h"
#include "support/run_model.h"

namespace cake::test {

// How near a run has to come. What follows from rounding alone may differ where arithmetic is narrow.
struct Closeness {
    double logits = 1e-4;      // absolute
    double statistics = 1e-4;  // H, V and the preference of a layer, relative
    double kept = 0;           // part of the kept tokens that may be others
    double kept_at_end = 0;    // the same after decoding
    int budget = 0;            // tokens that a layer's budget may differ by
    // Greedy answers are the same, token by token. Else only runs in order of position are comparable to the end: in order of
    // score, one swap changes what neighbours score (golden README).
    bool answers = true;
};

// Runs one prompt under several policies, served by one prefill. Decoding is given `answers`, by policy, in place of its own
// tokens, so that rounding cannot lead it elsewhere.
using RunPrompt = std::function<std::vector<RunOutcome>(std::span<const TokenId> prompt,
                                                        std::vector<Policy> policies,
                                                        std::vector<std::vector<TokenId>> answers)>;

// The full cache's logits and tokens, for each prompt of which there are captures.
void expect_official_answers(const Golden& golden, const Closeness& close, const RunPrompt& run);

// What each run of the official code saw and kept, and what it had at the end. `wanted`: which runs, by their record; all
// where it is empty.
void expect_official_evictions(const Golden& golden, const Closeness& close, const RunPrompt& run,
                               const std::function<bool(const nlohmann::json&)>& wanted = {});

}  // namespace cake::test
