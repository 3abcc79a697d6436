// Where the slots of one layer of one sequence lie, for kernels. As kernels/cpu/layer_pages.h.
#pragma once

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/pages.h"

namespace cake::gpu {

class LayerSlots {
public:
    __device__ LayerSlots(const PageFormat& format, const std::int32_t* pages)
        : format_(format), pages_(pages) {}
    __device__ explicit LayerSlots(const LayerTable& table)
        : LayerSlots(table.format, table.pages) {}
    __device__ LayerSlots(const CacheBatch& kv, int layer, int b)
        : LayerSlots(kv.format, kv.tables + (std::int64_t(layer) * kv.batch + b) * kv.max_pages) {}

    // The d_head elements of a slot; those of the slots after it in its page follow.
    template <typename T>
    __device__ T* k(int head, int slot) const {
        return reinterpret_cast<T*>(page(slot)) + place(head, slot) * format_.d_head;
    }
    template <typename T>
    __device__ T* v(int head, int slot) const {
        return reinterpret_cast<T*>(page(slot) + format_.v_offset) +
               place(head, slot) * format_.d_head;
    }
    // The same, whatever their type.
    __device__ std::byte* k_bytes(int head, int slot) const {
        const int element_bytes = format_.dtype == DType::BF16 ? 2 : 4;
        return page(slot) + place(head, slot) * format_.d_head * element_bytes;
    }
    __device__ std::byte* v_bytes(int head, int slot) const {
        return k_bytes(head, slot) + format_.v_offset;
    }
    __device__ std::int32_t& position(int head, int slot) const {
        return element<std::int32_t>(format_.position_offset, head, slot);
    }
    __device__ std::int32_t& order(int head, int entry) const {
        return element<std::int32_t>(format_.order_offset, head, entry);
    }
    __device__ bool has_running() const { return format_.running_offset >= 0; }
    __device__ float& running(int head, int slot) const {
        return element<float>(format_.running_offset, head, slot);
    }

private:
    __device__ std::byte* page(int slot) const {
        return format_.pool + pages_[slot / format_.page_tokens] * format_.page_bytes;
    }
    __device__ std::int64_t place(int head, int slot) const {
        return std::int64_t(head) * format_.page_tokens + slot % format_.page_tokens;
    }
    template <typename T>
    __device__ T& element(std::int64_t offset, int head, int slot) const {
        return reinterpret_cast<T*>(page(slot) + offset)[place(head, slot)];
    }

    const PageFormat& format_;
    const std::int32_t* pages_;
};

}  // namespace cake::gpu
