// What one sequence keeps: for each layer a list of pages and a length, the same for all its KV heads.
// Slots of a layer: the window, then kept tokens best first, then generated tokens. So a smaller share is a shorter
// prefix: the cascade truncates, and moves nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cache/page_pool.h"

namespace cake {

class SequenceCache {
public:
    SequenceCache(PagePool& pool, int n_layers);
    ~SequenceCache() { clear(); }
    SequenceCache(SequenceCache&&) = default;
    SequenceCache(const SequenceCache&) = delete;
    SequenceCache& operator=(const SequenceCache&) = delete;

    // Layer `layer` keeps the last `window` tokens of k, v [n_kv, S, d_head], then keep[h, :] (I32 [n_kv, b], best
    // first) of each KV head. Once per layer, before anything else is done to it.  running: F32 [n_kv, S], what decoding
    // goes on to sum, or empty.
    void store(Backend& dev, Stream s, int layer, View k, View v, int window, View keep,
               View running = {});

    // Keeps the window and the best `budget` of the others; no effect where there are not more.
    void truncate(int layer, int budget);

    // Makes the order lists that decoding needs, after the last truncation.
    void order(Backend& dev, Stream s, DecodeOrder order);

    // Pages for `slots` slots of a layer: takes what is missing from the pool (identity order) or hands back the tail.
    // Returns whether the page list changed.
    bool resize(Backend& dev, Stream s, int layer, int slots);

    void set_length(int layer, int length) { layers_[std::size_t(layer)].length = length; }
    int length(int layer) const { return layers_[std::size_t(layer)].length; }
    int window(int layer) const { return layers_[std::size_t(layer)].window; }
    int n_layers() const { return int(layers_.size()); }
    std::span<const std::int32_t> pages(int layer) const {
        return layers_[std::size_t(layer)].pages;
    }
    const PageLayout& layout() const { return pool_->layout(); }
    PagePool& pool() const { return *pool_; }
    std::size_t n_pages() const;  // of all layers
    std::size_t kept_bytes()
        const;  // keys and values of all layers, without bookkeeping and empty slots

    // Positions held by a layer, ascending, for each KV head of this rank: [n_kv][length].
    std::vector<std::vector<std::int32_t>> positions(Backend& dev, Stream s, int layer) const;

    // The same pages' content in pages of its own.
    SequenceCache copy(Backend& dev, Stream s) const;

    void clear();

private:
    struct Layer {
        std::vector<std::int32_t> pages;
        int length = 0;
        int window = 0;
    };
    // Until the next one: who uses it waits for the stream.
    PageList list(Backend& dev, Stream s, const Layer& layer) const;

    PagePool* pool_;
    std::vector<Layer> layers_;
};

}  // namespace cake
