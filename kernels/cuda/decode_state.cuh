// What eviction while decoding finds in each (layer, sequence) of a batch. As kernels/cpu/decode_state.h.
#pragma once

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/pages.h"

namespace cake::gpu {

struct LayerState {
    int length;      // entries in use, n
    int budget;      // of them the candidates that may stay
    int candidates;  // m = length - window, where anything is to go; else 0
};

// at: layer * batch + sequence.
__device__ inline LayerState layer_state(const CacheBatch& kv, int at, int window) {
    LayerState s{kv.lengths[at], kv.budgets[at], 0};
    if (s.budget >= 0 && s.length > s.budget + window)
        s.candidates = s.length - window;
    return s;
}

}  // namespace cake::gpu
