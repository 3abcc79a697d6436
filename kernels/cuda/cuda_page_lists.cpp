// Filling pages, and the lists that order them, of the CUDA backend.
#include <algorithm>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_pages.h"
#include "kernels/cuda/page_lists.h"

namespace cake {
namespace {

int capacity(const PageList& list) { return int(list.pages.elements()) * list.layout.page_tokens; }

void check_length(const PageList& list, int length) {
    CAKE_CHECK(length >= 0 && length <= capacity(list), "{} of {} slots", length, capacity(list));
}

}  // namespace

void CudaBackend::store_tokens(Stream s, View k, View v, std::int64_t first, std::int64_t count,
                               View keep, View running, const PageList& to) {
    const PageLayout& layout = to.layout;
    const std::int64_t tokens = k.dim(1);
    const std::int64_t n_kept = keep ? keep.elements() / layout.n_kv : 0;
    CAKE_CHECK(k.dtype() == layout.dtype && v.dtype() == layout.dtype,
               "{} keys and {} values into pages of {}", cake::name(k.dtype()),
               cake::name(v.dtype()), cake::name(layout.dtype));
    CAKE_CHECK(k.dim(0) == layout.n_kv && k.dim(2) == layout.d_head && v.shape() == k.shape(),
               "keys {} and values {} into pages of {} heads of {}", k.shape().str(),
               v.shape().str(), layout.n_kv, layout.d_head);
    CAKE_CHECK(first >= 0 && count >= 0 && first + count <= tokens, "tokens {}..{} of {}", first,
               first + count, tokens);
    CAKE_CHECK(count + n_kept <= capacity(to), "{} tokens into {} slots", count + n_kept,
               capacity(to));
    CAKE_CHECK(!running || (layout.running && running.dim(0) == layout.n_kv &&
                            running.dim(1) >= first + count),
               "running sums {} of {} heads, and pages {} room for them", running.shape().str(),
               layout.n_kv, layout.running ? "with" : "without");
    gpu::store_tokens(queue(s),
                      {.k = k.data(),
                       .v = v.data(),
                       .capacity = tokens,
                       .first = first,
                       .count = count,
                       .keep = n_kept > 0 ? keep.as<std::int32_t>() : nullptr,
                       .n_kept = n_kept,
                       .running = running ? running.as<float>() : nullptr,
                       .running_stride = running ? running.dim(1) : 0},
                      layer_table(to));
}

void CudaBackend::order_slots(Stream s, const PageList& pages, int length, int window,
                              DecodeOrder order) {
    check_length(pages, length);
    const gpu::LayerTable table = layer_table(pages);
    if (order == DecodeOrder::Official) {  // what follows the window, then the window
        gpu::turn_order(queue(s), table, 0, capacity(pages), length, std::min(window, length));
    } else {
        gpu::turn_order(queue(s), table, length, capacity(pages), length, 0);
        gpu::sort_order(queue(s), table, length);
    }
}

void CudaBackend::list_positions(Stream s, const PageList& pages, int length, View out) {
    check_length(pages, length);
    CAKE_CHECK(out.elements() == std::int64_t(pages.layout.n_kv) * length,
               "positions of {} heads of {} slots into {}", pages.layout.n_kv, length,
               out.shape().str());
    gpu::list_positions(queue(s), layer_table(pages), length, out.as<std::int32_t>());
}

void CudaBackend::init_page(Stream s, const PageList& pages, int index) {
    CAKE_CHECK(index >= 0 && index < pages.pages.elements(), "page {} of {}", index,
               pages.pages.elements());
    const int first = index * pages.layout.page_tokens;
    gpu::turn_order(queue(s), layer_table(pages), first, first + pages.layout.page_tokens, 0, 0);
}

}  // namespace cake
