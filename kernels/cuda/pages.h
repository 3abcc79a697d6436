// Pages (kernels/kv_pages.h) as kernels take them, by value. pages.cuh reads and writes them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launch.h"

namespace cake::gpu {

// Offsets are bytes from the start of a page; each part is [n_kv, page_tokens], of rows or of single elements.
struct PageFormat {
    std::byte* pool = nullptr;
    std::int64_t page_bytes = 0;
    std::int64_t v_offset = 0;
    std::int64_t position_offset = 0;
    std::int64_t order_offset = 0;
    std::int64_t running_offset = -1;  // -1: pages have no running sums
    int n_kv = 0;
    int page_tokens = 0;
    int d_head = 0;
    DType dtype = DType::F32;  // of keys and values
};

// One layer of one sequence.
struct LayerTable {
    PageFormat format;
    const std::int32_t* pages = nullptr;  // as many as its slots need
};

// The caches of a batch.
struct CacheBatch {
    PageFormat format;
    const std::int32_t* tables = nullptr;   // [n_layers, batch, max_pages]
    std::int32_t* lengths = nullptr;        // [n_layers, batch]
    const std::int32_t* budgets = nullptr;  // [n_layers, batch]
    std::int32_t* positions = nullptr;      // [batch]
    int n_layers = 0;
    int batch = 0;
    int max_pages = 0;

    // KV heads of all layers and sequences.
    std::int64_t heads() const { return std::int64_t(n_layers) * batch * format.n_kv; }
    // Of a layer of a sequence, as many as its page table has room for.
    std::int64_t most_slots() const { return std::int64_t(max_pages) * format.page_tokens; }
};

}  // namespace cake::gpu
