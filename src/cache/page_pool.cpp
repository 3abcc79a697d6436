#include "cache/page_pool.h"

#include <algorithm>
#include <numeric>

namespace cake {

PagePool::PagePool(Backend& dev, const PageLayout& layout, int n_pages)
    : layout_(layout),
      slab_(dev.tensor(DType::U8, {n_pages, std::int64_t(layout.bytes())})),
      list_(dev.tensor(DType::I32, {n_pages})),
      free_(std::size_t(n_pages)) {
    std::iota(free_.rbegin(), free_.rend(), 0);
}

View PagePool::upload(Backend& dev, Stream s, std::span<const std::int32_t> pages) {
    const Shape shape{std::int64_t(pages.size())};
    const View list = list_.view().rows(0, shape.elements());
    dev.copy(s, list, View(const_cast<std::int32_t*>(pages.data()), DType::I32, shape));
    return list;
}

int PagePool::allocate() {
    CAKE_CHECK(!free_.empty(), "all {} cache pages are in use", n_pages());
    const int page = free_.back();
    free_.pop_back();
    high_water_ = std::max(high_water_, ++in_use_);
    return page;
}

void PagePool::release(int page) {
    CAKE_CHECK(page >= 0 && page < n_pages() && in_use_ > 0, "page {} of {} handed back", page,
               n_pages());
    free_.push_back(page);
    --in_use_;
}

}  // namespace cake
