// A fixed slab of pages with a free list: the cache never grows past what was planned.
#pragma once

#include <span>
#include <vector>

#include "kernels/backend.h"

namespace cake {

class PagePool {
public:
    PagePool(Backend& dev, const PageLayout& layout, int n_pages);

    const PageLayout& layout() const { return layout_; }
    View slab() const { return slab_; }  // U8 [n_pages, layout.bytes()]
    int n_pages() const { return int(slab_.shape()[0]); }

    // The list in device memory, I32, until the next call: who uses it waits for the stream before that.
    View upload(Backend& dev, Stream s, std::span<const std::int32_t> pages);

    // Throws Error where none is free: admission must not let that happen.
    int allocate();
    void release(int page);

    int in_use() const { return in_use_; }
    int high_water() const { return high_water_; }  // most pages in use at any time
    void reset_high_water() { high_water_ = in_use_; }
    std::size_t peak_bytes() const { return std::size_t(high_water_) * layout_.bytes(); }

private:
    PageLayout layout_;
    Tensor slab_;
    Tensor list_;            // I32 [n_pages]
    std::vector<int> free_;  // last one is given next
    int in_use_ = 0;
    int high_water_ = 0;
};

}  // namespace cake
