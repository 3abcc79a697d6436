// Launchers of page_lists.cu: filling pages, and the lists that order them.
#pragma once

#include "kernels/cuda/pages.h"

namespace cake::gpu {

// One layer's scratch, and what of it becomes slots.
struct StoreTask {
    const void* k = nullptr;  // [n_kv, capacity, d_head] of the pages' type
    const void* v = nullptr;
    std::int64_t capacity = 0;
    std::int64_t first = 0, count = 0;   // tokens first .. first + count to slots 0 .. count
    const std::int32_t* keep = nullptr;  // [n_kv, n_kept]: to the slots that follow
    std::int64_t n_kept = 0;
    const float* running = nullptr;  // [n_kv, running_stride], or null
    std::int64_t running_stride = 0;
};
void store_tokens(Queue queue, const StoreTask& task, const LayerTable& to);

// Entries first .. end of each head's list: entry i < length is slot (i + by) % length, a later one is slot i.
void turn_order(Queue queue, const LayerTable& table, int first, int end, int length, int by);

// Entries 0 .. length are slots 0 .. length by ascending position; positions of a head differ.
void sort_order(Queue queue, const LayerTable& table, int length);

// out [n_kv, length]: positions in the order of the lists.
void list_positions(Queue queue, const LayerTable& table, int length, std::int32_t* out);

}  // namespace cake::gpu
