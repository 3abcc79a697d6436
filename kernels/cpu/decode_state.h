// What eviction while decoding finds in each (layer, sequence) of a batch.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kv_pages.h"

namespace cake {

struct LayerState {
    int length = 0;      // entries in use, n
    int budget = 0;      // of them the candidates that may stay
    int candidates = 0;  // m = length - window, where anything is to go; else 0
};

inline std::vector<LayerState> layer_states(const PagedBatch& kv, int window) {
    std::vector<LayerState> states;
    for (std::int64_t at = 0; at < kv.lengths.elements(); ++at) {
        LayerState& s = states.emplace_back();
        s.length = kv.lengths.as<std::int32_t>()[at];
        s.budget = kv.budgets.as<std::int32_t>()[at];
        if (s.budget >= 0 && s.length > s.budget + window)
            s.candidates = s.length - window;
    }
    return states;
}

inline float* block(const RaggedRows& rows, std::int64_t at) {
    return rows.data.as<float>() + rows.offsets.as<std::int64_t>()[at];
}

// Throws where a block lacks its elements(state) floats, 0 for a layer that needs none. Loops over threads must not
// throw.
template <typename Elements>
void check_blocks(const PagedBatch& kv, const std::vector<LayerState>& states,
                  const RaggedRows& rows, const Elements& elements) {
    for (std::size_t at = 0; at < states.size(); ++at) {
        const std::int64_t wanted = elements(states[at]);
        if (wanted == 0)
            continue;
        const std::int64_t offset = rows.offsets.as<std::int64_t>()[at];
        CAKE_CHECK(offset >= 0 && offset + wanted <= rows.data.elements(),
                   "layer {} has {} floats at {} of {}", at / std::size_t(kv.batch()), wanted,
                   offset, rows.data.elements());
    }
}

}  // namespace cake
