// What a token is drawn by.
#pragma once

#include <cstdint>

namespace cake {

// Tokens that every backend can draw from: on a GPU the sum of their weights has 64 bits.
inline constexpr std::int64_t most_sampled_from = std::int64_t(1) << 19;

// Filters in the order of Hugging Face's `generate`, each of what the one before it left: top-k, top-p, min-p. Temperature 0
// takes the best token and passes over the rest. All are doubles, so that those of a batch are a tensor F64 [n, 5].
struct Draw {
    double temperature = 0;
    double top_k = 0;   // so many best tokens; 0: all
    double top_p = 1;   // the smallest set of best tokens whose probabilities reach this
    double min_p = 0;   // tokens at least this likely, as a part of the likeliest
    double random = 0;  // in [0, 1): which of them, best first, in parts of their probability
};
static_assert(sizeof(Draw) == 5 * sizeof(double));

}  // namespace cake
