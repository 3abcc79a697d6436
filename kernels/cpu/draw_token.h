// From scores to a token: the host's sampler, and the CPU's sample kernel.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "base/dtype.h"
#include "kernels/draw.h"

namespace cake {

// A logit that is not a number counts as -infinity.
inline double score_of(float logit) {
    return std::isnan(logit) ? -std::numeric_limits<double>::infinity() : double(logit);
}

// score - best, where both may be the same infinity.
inline double below(double best, double score) { return score == best ? 0 : score - best; }

struct Candidate {
    double score;  // a logit
    TokenId id;
    double weight = 0;  // its probability as a part of the likeliest, once the filters need it
};

// The token of what the filters leave in whose part of their probability, best first, draw.random lies. Of equal tokens the
// lower id is the better one, in every filter: top-k keeps exactly k. `candidates`, at least one, are used up.
TokenId draw_token(std::vector<Candidate>& candidates, const Draw& draw);

}  // namespace cake
