// Pages of the backend's interface, as the launchers take them.
#pragma once

#include "kernels/cuda/pages.h"
#include "kernels/kv_pages.h"

namespace cake {

inline gpu::PageFormat page_format(const PageLayout& layout, View pool) {
    return {.pool = reinterpret_cast<std::byte*>(pool.as<std::uint8_t>()),
            .page_bytes = std::int64_t(layout.bytes()),
            .v_offset = std::int64_t(layout.v_offset()),
            .position_offset = std::int64_t(layout.position_offset()),
            .order_offset = std::int64_t(layout.order_offset()),
            .running_offset = layout.running ? std::int64_t(layout.running_offset()) : -1,
            .n_kv = layout.n_kv,
            .page_tokens = layout.page_tokens,
            .d_head = layout.d_head,
            .dtype = layout.dtype};
}

inline gpu::LayerTable layer_table(const PageList& list) {
    return {page_format(list.layout, list.pool), list.pages.as<std::int32_t>()};
}

inline gpu::CacheBatch cache_batch(const PagedBatch& kv) {
    return {.format = page_format(kv.layout, kv.pool),
            .tables = kv.tables.as<std::int32_t>(),
            .lengths = kv.lengths.as<std::int32_t>(),
            .budgets = kv.budgets.as<std::int32_t>(),
            .positions = kv.positions.as<std::int32_t>(),
            .n_layers = kv.n_layers(),
            .batch = kv.batch(),
            .max_pages = int(kv.tables.dim(2))};
}

}  // namespace cake
