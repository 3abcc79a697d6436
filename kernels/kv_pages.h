// How kept keys and values lie in memory: pages of one layer of one sequence, found through page tables.
#pragma once

#include "base/tensor.h"

namespace cake {

// One page, of `page_tokens` slots for each of this rank's KV heads:
//   K        [n_kv, page_tokens, d_head]  dtype
//   V        [n_kv, page_tokens, d_head]  dtype
//   position [n_kv, page_tokens]          I32, token position of a slot
//   order    [n_kv, page_tokens]          I32, entry i of a layer's order list lies where slot i would
//   running  [n_kv, page_tokens]          F32, sum of what all queries so far attended to a slot; where layout.running
// The order list of a KV head is a permutation of its slots. Its first `length` entries are the slots in use, oldest
// position first (DecodeOrder::Position) or as the official cache orders them (DecodeOrder::Official); the entry
// after them is the slot that the next token takes.
struct PageLayout {
    int n_kv = 0;
    int page_tokens = 0;
    int d_head = 0;
    DType dtype = DType::F32;
    bool running = false;  // some policy that is served accumulates

    std::size_t kv_bytes() const {  // of K, or of V
        return bytes_of(dtype, std::int64_t(n_kv) * page_tokens * d_head);
    }
    std::size_t v_offset() const { return kv_bytes(); }
    std::size_t position_offset() const { return 2 * kv_bytes(); }
    std::size_t order_offset() const { return position_offset() + slots() * sizeof(std::int32_t); }
    std::size_t running_offset() const { return order_offset() + slots() * sizeof(std::int32_t); }
    std::size_t bytes() const {  // a multiple of 64, so that every page is aligned
        return (running_offset() + (running ? slots() * sizeof(float) : 0) + 63) / 64 * 64;
    }
    std::size_t slots() const { return std::size_t(n_kv) * std::size_t(page_tokens); }
    int pages_for(std::int64_t tokens) const {
        return int((tokens + page_tokens - 1) / page_tokens);
    }
};

// The pages of one layer of one sequence.
struct PageList {
    PageLayout layout;
    View pool;   // U8 [n_pages, layout.bytes()]
    View pages;  // I32 [n]: page i holds slots i*page_tokens ...
};

// The caches of a batch as decode kernels see them. All of it is device memory, read by kernels and never passed as
// host integers, so that a captured step stays valid while lengths and tables change.
struct PagedBatch {
    PageLayout layout;
    View pool;     // U8 [n_pages, layout.bytes()]
    View tables;   // I32 [n_layers, batch, max_pages]
    View lengths;  // I32 [n_layers, batch]: entries in use, the newest token included
    View
        budgets;  // I32 [n_layers, batch]: prefix budget; -1 where the layer does not evict while decoding
    View positions;  // I32 [batch]: position of the newest token

    int n_layers() const { return int(tables.dim(0)); }
    int batch() const { return int(tables.dim(1)); }
};

// Rows of floats of different length for each layer and sequence of a batch.
struct RaggedRows {
    View
        data;  // F32 [heads, floats of a head]; blocks lie in it one after another, whatever its rows
    View offsets;  // I64 [n_layers, batch]: first element of the block; -1 where there is none
};

enum class DecodeOrder : std::uint8_t { Position, Official };

}  // namespace cake
