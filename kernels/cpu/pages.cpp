// Filling pages, and the lists that order them.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/layer_pages.h"
#include "kernels/cpu/parallel.h"

namespace cake {
namespace {

LayerPages layer_pages(const PageList& list) {
    return LayerPages(list.layout, list.pool, list.pages.as<std::int32_t>());
}

int capacity(const PageList& list) { return int(list.pages.elements()) * list.layout.page_tokens; }

}  // namespace

void CpuBackend::store_tokens(Stream, View k, View v, std::int64_t first, std::int64_t count,
                              View keep, View running, const PageList& to) {
    const PageLayout& layout = to.layout;
    const std::int64_t tokens = k.dim(1), d = layout.d_head;
    const std::int64_t n_kept = keep ? keep.elements() / layout.n_kv : 0;
    CAKE_CHECK(k.dtype() == layout.dtype && v.dtype() == layout.dtype,
               "{} keys and {} values into pages of {}", cake::name(k.dtype()),
               cake::name(v.dtype()), cake::name(layout.dtype));
    CAKE_CHECK(k.dim(0) == layout.n_kv && k.dim(2) == d && v.shape() == k.shape(),
               "keys {} and values {} into pages of {} heads of {}", k.shape().str(),
               v.shape().str(), layout.n_kv, d);
    CAKE_CHECK(first >= 0 && count >= 0 && first + count <= tokens, "tokens {}..{} of {}", first,
               first + count, tokens);
    CAKE_CHECK(count + n_kept <= capacity(to), "{} tokens into {} slots", count + n_kept,
               capacity(to));

    CAKE_CHECK(!running || (layout.running && running.dim(0) == layout.n_kv &&
                            running.dim(1) >= first + count),
               "running sums {} of {} heads, and pages {} room for them", running.shape().str(),
               layout.n_kv, layout.running ? "with" : "without");

    const LayerPages pages = layer_pages(to);
    const std::size_t row_bytes = bytes_of(layout.dtype, d);
    const auto* keys = static_cast<const std::byte*>(k.data());
    const auto* values = static_cast<const std::byte*>(v.data());
    const float* sums = running ? running.as<float>() : nullptr;
    const std::int32_t* kept = n_kept ? keep.as<std::int32_t>() : nullptr;

    // By (head, page), so that few heads on many threads share the work too.
    const int n_pages = layout.pages_for(count + n_kept);
    parallel_for(threads_, std::int64_t(layout.n_kv) * n_pages, [&](std::int64_t task) {
        const int g = int(task / n_pages);
        const int begin = int(task % n_pages) * layout.page_tokens;
        const int end = int(std::min<std::int64_t>(begin + layout.page_tokens, count + n_kept));
        for (int slot = begin; slot < end; ++slot) {
            const std::int64_t token =
                slot < count ? first + slot : kept[g * n_kept + slot - count];
            const std::size_t from = std::size_t(g * tokens + token) * row_bytes;
            std::memcpy(pages.k_bytes(g, slot), keys + from, row_bytes);
            std::memcpy(pages.v_bytes(g, slot), values + from, row_bytes);
            pages.position(g, slot) = std::int32_t(token);
            if (sums)
                pages.running(g, slot) = sums[g * running.dim(1) + token];
        }
    });
}

void CpuBackend::order_slots(Stream, const PageList& list, int length, int window,
                             DecodeOrder order) {
    CAKE_CHECK(length >= 0 && length <= capacity(list), "{} of {} slots", length, capacity(list));
    const LayerPages pages = layer_pages(list);
    parallel_for(threads_, list.layout.n_kv, [&](std::int64_t head) {
        const int g = int(head);
        if (order == DecodeOrder::Official) {
            const int w = std::min(window, length);
            for (int i = 0; i < length; ++i)
                pages.order(g, i) = i < length - w ? w + i : i - (length - w);
        } else {
            std::vector<std::pair<std::int32_t, std::int32_t>> by_position(std::size_t(length),
                                                                           {0, 0});
            for (int slot = 0; slot < length; ++slot)
                by_position[std::size_t(slot)] = {pages.position(g, slot), slot};
            std::sort(by_position.begin(), by_position.end());
            for (int i = 0; i < length; ++i)
                pages.order(g, i) = by_position[std::size_t(i)].second;
        }
        for (int i = length; i < capacity(list); ++i)
            pages.order(g, i) = i;
    });
}

void CpuBackend::list_positions(Stream, const PageList& list, int length, View out) {
    const int n_kv = list.layout.n_kv;
    CAKE_CHECK(length >= 0 && length <= capacity(list), "{} of {} slots", length, capacity(list));
    CAKE_CHECK(out.elements() == std::int64_t(n_kv) * length,
               "positions of {} heads of {} slots into {}", n_kv, length, out.shape().str());
    const LayerPages pages = layer_pages(list);
    std::int32_t* positions = out.as<std::int32_t>();
    for (int g = 0; g < n_kv; ++g)
        for (int i = 0; i < length; ++i)
            *positions++ = pages.position(g, pages.order(g, i));
}

void CpuBackend::init_page(Stream, const PageList& list, int index) {
    CAKE_CHECK(index >= 0 && index < list.pages.elements(), "page {} of {}", index,
               list.pages.elements());
    const LayerPages pages = layer_pages(list);
    const int first = index * list.layout.page_tokens;
    for (int g = 0; g < list.layout.n_kv; ++g)
        for (int i = first; i < first + list.layout.page_tokens; ++i)
            pages.order(g, i) = i;
}

}  // namespace cake
