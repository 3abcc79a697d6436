#include "cache/sequence_cache.h"

#include <algorithm>

namespace cake {

SequenceCache::SequenceCache(PagePool& pool, int n_layers)
    : pool_(&pool), layers_(std::size_t(n_layers)) {}

PageList SequenceCache::list(Backend& dev, Stream s, const Layer& layer) const {
    return {pool_->layout(), pool_->slab(), pool_->upload(dev, s, layer.pages)};
}

void SequenceCache::store(Backend& dev, Stream s, int l, View k, View v, int window, View keep,
                          View running) {
    Layer& layer = layers_[std::size_t(l)];
    CAKE_CHECK(layer.pages.empty(), "layer {} is stored twice", l);
    const std::int64_t S = k.dim(1);
    layer.window = window;
    layer.length = window + int(keep.dim(1));
    while (int(layer.pages.size()) < layout().pages_for(layer.length))
        layer.pages.push_back(pool_->allocate());
    dev.store_tokens(s, k, v, S - window, window, keep, running, list(dev, s, layer));
    dev.synchronize(s);  // the next list takes the place of this one
}

void SequenceCache::truncate(int l, int budget) {
    Layer& layer = layers_[std::size_t(l)];
    layer.length = std::min(layer.length, layer.window + budget);
    while (int(layer.pages.size()) > layout().pages_for(layer.length)) {
        pool_->release(layer.pages.back());
        layer.pages.pop_back();
    }
}

void SequenceCache::order(Backend& dev, Stream s, DecodeOrder order) {
    for (Layer& layer : layers_) {
        if (layer.pages.empty())
            continue;
        dev.order_slots(s, list(dev, s, layer), layer.length, layer.window, order);
        dev.synchronize(s);
    }
}

bool SequenceCache::resize(Backend& dev, Stream s, int l, int slots) {
    Layer& layer = layers_[std::size_t(l)];
    const int wanted = layout().pages_for(slots);
    const bool changed = wanted != int(layer.pages.size());
    for (; int(layer.pages.size()) > wanted; layer.pages.pop_back())
        pool_->release(layer.pages.back());
    while (int(layer.pages.size()) < wanted) {
        layer.pages.push_back(pool_->allocate());
        dev.init_page(s, list(dev, s, layer), int(layer.pages.size()) - 1);
        dev.synchronize(s);
    }
    return changed;
}

std::vector<std::vector<std::int32_t>> SequenceCache::positions(Backend& dev, Stream s,
                                                                int l) const {
    const Layer& layer = layers_[std::size_t(l)];
    const int n_kv = layout().n_kv;
    std::vector<std::vector<std::int32_t>> out(
        std::size_t(n_kv), std::vector<std::int32_t>(std::size_t(layer.length)));
    if (layer.length == 0)
        return out;
    Tensor on_device = dev.tensor(DType::I32, {n_kv, layer.length});
    Tensor on_host = Tensor::host(DType::I32, {n_kv, layer.length});
    dev.list_positions(s, list(dev, s, layer), layer.length, on_device);
    dev.copy(s, on_host, on_device);
    dev.synchronize(s);
    for (int h = 0; h < n_kv; ++h) {
        auto row = on_host.view().row(h).span<std::int32_t>();
        out[std::size_t(h)].assign(row.begin(), row.end());
        std::sort(out[std::size_t(h)].begin(), out[std::size_t(h)].end());
    }
    return out;
}

std::size_t SequenceCache::n_pages() const {
    std::size_t n = 0;
    for (const Layer& layer : layers_)
        n += layer.pages.size();
    return n;
}

std::size_t SequenceCache::kept_bytes() const {
    std::int64_t tokens = 0;
    for (const Layer& layer : layers_)
        tokens += layer.length;
    return bytes_of(layout().dtype, 2 * tokens * layout().n_kv * layout().d_head);
}

SequenceCache SequenceCache::copy(Backend& dev, Stream s) const {
    SequenceCache out(*pool_, n_layers());
    for (std::size_t l = 0; l < layers_.size(); ++l) {
        Layer& to = out.layers_[l];
        to.length = layers_[l].length;
        to.window = layers_[l].window;
        for (std::int32_t page : layers_[l].pages) {
            to.pages.push_back(pool_->allocate());
            dev.copy(s, pool_->slab().row(to.pages.back()), pool_->slab().row(page));
        }
    }
    return out;
}

void SequenceCache::clear() {
    for (Layer& layer : layers_) {
        for (std::int32_t page : layer.pages)
            pool_->release(page);
        layer = {};
    }
}

}  // namespace cake
