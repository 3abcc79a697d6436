// From logits to a token.
#pragma once

#include <cstdint>
#include <random>
#include <span>

#include "base/dtype.h"

namespace cake {

struct Sampling {
    double temperature = 0;  // 0: the best token
    double top_p = 1;        // the smallest set of best tokens whose probabilities reach this
    std::uint64_t seed = 0;
};

// One per request, on the rank that decides.
class Sampler {
public:
    explicit Sampler(const Sampling& sampling) : sampling_(sampling), random_(sampling.seed) {}

    // Ties go to the lower id.
    TokenId sample(std::span<const float> logits);

private:
    Sampling sampling_;
    std::mt19937_64 random_;
};

}  // namespace cake
