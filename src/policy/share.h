// How layers share the cache: real preferences to whole budgets. Two rules (docs/algorithm.md, section 2).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace cake {

// What is dealt out: prefix tokens (window excluded) per KV head.
struct ShareTotal {
    std::int64_t total = 0;  // T = (C - w) * L, always over all layers
    int cap = 0;             // K = S - w, what a layer can hold
};

// Real-valued water-filling: b_l = min(K, lambda P_l) with lambda such that they add up to T (all at K where L K <= T).
// Layers with P = 0 get nothing until all others are at K; what is left is then dealt evenly among them.
std::vector<double> water_fill(std::span<const double> preference, const ShareTotal& t);

// Real shares that are known before the prompt passes: a pyramid that falls linearly from the first layer to the last,
// max = 2 (C - w) - min with min = (C - w) / 20, or, where the first layer cannot hold max, from K to 2 (C - w) - K.
// They add up to T.
std::vector<double> pyramid_shares(int n_layers, const ShareTotal& t);

// A stage of the cascade: water_fill, rounded up. As layers arrive no budget grows.
std::vector<int> share_stage(std::span<const double> preference, const ShareTotal& t);

// All layers seen: rounded down, what is left by largest remainder (ties to the lower layer), never above `at_most`
// (budgets of the stage before; empty: no limit). The sum is min(T, L K).
std::vector<int> share_final(std::span<const double> preference, const ShareTotal& t,
                             std::span<const int> at_most = {});

// The official code's adjust_budgets on real budgets, spread by spread; results may exceed the cap.
std::vector<int> adjust_budgets_official(std::span<const double> real, const ShareTotal& t);

// Its real budgets: P_l (rounded to float) / sum P * T, in double.
std::vector<double> real_budgets_official(std::span<const double> preference, std::int64_t total);

}  // namespace cake
