// Where the slots of one layer of one sequence lie in the pool.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/kv_pages.h"

namespace cake {

class LayerPages {
public:
    // `pages`: the layer's page list; as many entries are read as the slots asked for need.
    LayerPages(const PageLayout& layout, View pool, const std::int32_t* pages)
        : layout_(layout),
          pool_(reinterpret_cast<std::byte*>(pool.as<std::uint8_t>())),
          pages_(pages) {}
    LayerPages(const PagedBatch& kv, int layer, int b)
        : LayerPages(kv.layout, kv.pool,
                     kv.tables.as<std::int32_t>() +
                         (std::int64_t(layer) * kv.batch() + b) * kv.tables.dim(2)) {}

    // The d_head elements of a slot. Slots of one page follow each other.
    template <typename T>
    T* k(int head, int slot) const {
        return reinterpret_cast<T*>(page(slot)) + place(head, slot) * layout_.d_head;
    }
    template <typename T>
    T* v(int head, int slot) const {
        return reinterpret_cast<T*>(page(slot) + layout_.v_offset()) +
               place(head, slot) * layout_.d_head;
    }
    // The same, whatever their type; layout.d_head elements.
    std::byte* k_bytes(int head, int slot) const {
        return page(slot) + bytes_of(layout_.dtype, place(head, slot) * layout_.d_head);
    }
    std::byte* v_bytes(int head, int slot) const {
        return k_bytes(head, slot) + layout_.v_offset();
    }
    std::int32_t& position(int head, int slot) const {
        return reinterpret_cast<std::int32_t*>(page(slot) +
                                               layout_.position_offset())[place(head, slot)];
    }
    std::int32_t& order(int head, int entry) const {
        return reinterpret_cast<std::int32_t*>(page(entry) +
                                               layout_.order_offset())[place(head, entry)];
    }
    // Where layout.running.
    float& running(int head, int slot) const {
        return reinterpret_cast<float*>(page(slot) + layout_.running_offset())[place(head, slot)];
    }
    // All that a slot holds.
    void move(int head, int to, int from) const {
        const std::size_t row_bytes = bytes_of(layout_.dtype, layout_.d_head);
        std::memcpy(k_bytes(head, to), k_bytes(head, from), row_bytes);
        std::memcpy(v_bytes(head, to), v_bytes(head, from), row_bytes);
        position(head, to) = position(head, from);
        if (layout_.running)
            running(head, to) = running(head, from);
    }
    // Entries 0 .. n of an order list, and entries first .. first + n: page by page, which is faster.
    void read_order(int head, int n, std::int32_t* to) const {
        for (int i = 0; i < n; i += layout_.page_tokens)
            std::copy_n(&order(head, i), std::min(layout_.page_tokens, n - i), to + i);
    }
    void write_order(int head, int first, int n, const std::int32_t* from) const {
        for (int i = first, end = first + n; i < end; i += run(i))
            std::copy_n(from + (i - first), std::min(run(i), end - i), &order(head, i));
    }
    // Slots from `slot` to the end of its page.
    int run(int slot) const { return layout_.page_tokens - slot % layout_.page_tokens; }

private:
    std::byte* page(int slot) const {
        return pool_ + std::size_t(pages_[slot / layout_.page_tokens]) * layout_.bytes();
    }
    std::int64_t place(int head, int slot) const {
        return std::int64_t(head) * layout_.page_tokens + slot % layout_.page_tokens;
    }

    PageLayout layout_;
    std::byte* pool_;
    const std::int32_t* pages_;
};

}  // namespace cake
