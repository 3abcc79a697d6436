// After a decode step: score old slots by the newest token's attention, drop what is over the layer's budget
// (cake.md, section 5).
#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/layer_pages.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/rank_key.h"

namespace cake {
namespace {

struct LayerState {
    int length = 0;      // entries in use, n
    int budget = 0;      // of them the candidates that may stay
    int candidates = 0;  // m = length - window, where anything is to go; else 0
};

LayerState layer_state(const PagedBatch& kv, std::int64_t at, int window) {
    LayerState s;
    s.length = kv.lengths.as<std::int32_t>()[at];
    s.budget = kv.budgets.as<std::int32_t>()[at];
    if (s.budget >= 0 && s.length > s.budget + window)
        s.candidates = s.length - window;
    return s;
}

// First element of a block; everything of this (layer, sequence) lies behind it.
float* block(const RaggedRows& rows, std::int64_t at, std::int64_t elements) {
    const std::int64_t offset = rows.offsets.as<std::int64_t>()[at];
    CAKE_CHECK(offset >= 0 && offset + elements <= rows.data.elements(),
               "a layer that evicts needs {} floats at {} of {}", elements, offset, rows.data.elements());
    return rows.data.as<float>() + offset;
}

// sum[i] += (p[i - r] + .. + p[i + r]) / pool, zeros outside.
void add_pooled(const std::vector<double>& p, int pool, std::vector<double>& sum) {
    const int m = int(p.size()), r = (pool - 1) / 2;
    for (int i = 0; i < m; ++i) {
        double s = 0;
        for (int j = std::max(0, i - r); j <= std::min(m - 1, i + r); ++j)
            s += p[std::size_t(j)];
        sum[std::size_t(i)] += s / pool;
    }
}

// The eviction of one KV head. Slots 0 .. n are all in use; afterwards budget + window of the slots
// 0 .. budget + window are, and the one left over is where the next token goes.
void evict_head(const LayerPages& pages, std::size_t row_bytes, const LayerState& state, const float* score,
                DecodeOrder order, int g) {
    const int n = state.length, m = state.candidates, kept = state.budget;
    const int left = n - (m - kept);  // entries that stay, the window's included

    std::vector<std::int32_t> slots(static_cast<std::size_t>(n));
    for (int i = 0; i < n; ++i)
        slots[std::size_t(i)] = pages.order(g, i);

    // Candidates that stay come first in `keys`, those that go follow.
    std::vector<std::uint64_t> keys(static_cast<std::size_t>(m));
    for (int i = 0; i < m; ++i)
        keys[std::size_t(i)] = rank_key(score[i], std::uint32_t(i));
    if (m - kept == 1)  // the usual case: one token came, one goes
        std::iter_swap(std::max_element(keys.begin(), keys.end()), keys.end() - 1);
    else
        std::nth_element(keys.begin(), keys.begin() + kept, keys.end());
    if (order == DecodeOrder::Official)
        std::sort(keys.begin(), keys.begin() + kept);
    else
        std::sort(keys.begin(), keys.begin() + kept,
                  [](std::uint64_t a, std::uint64_t b) { return index_of(a) < index_of(b); });

    std::vector<std::int32_t> list;
    list.reserve(std::size_t(n));
    for (int i = 0; i < kept; ++i)
        list.push_back(slots[index_of(keys[std::size_t(i)])]);
    list.insert(list.end(), slots.begin() + m, slots.end());
    std::vector<std::int32_t> holes;
    for (int i = kept; i < m; ++i)
        if (const std::int32_t slot = slots[index_of(keys[std::size_t(i)])]; slot <= left)
            holes.push_back(slot);
    std::sort(holes.begin(), holes.end());

    // There is one hole more than entries beyond: of the m - kept - 1 slots after `left`, as many hold survivors as
    // there are holes below, less the next token's.
    std::size_t filled = 0;
    for (std::int32_t& slot : list) {
        if (slot <= left)
            continue;
        const std::int32_t to = holes[filled++];
        std::memcpy(pages.k_bytes(g, to), pages.k_bytes(g, slot), row_bytes);
        std::memcpy(pages.v_bytes(g, to), pages.v_bytes(g, slot), row_bytes);
        pages.position(g, to) = pages.position(g, slot);
        slot = to;
    }
    list.push_back(holes[filled]);
    for (int i = left + 1; i < n; ++i)
        list.push_back(i);
    for (int i = 0; i < n; ++i)
        pages.order(g, i) = list[std::size_t(i)];
}

}  // namespace

void CpuBackend::decode_scores(Stream, const PagedBatch& kv, const RaggedRows& probs, int window, int pool,
                               const RaggedRows& scores) {
    CAKE_CHECK(pool > 0 && pool % 2 == 1, "a pool of {} has no middle", pool);
    CAKE_CHECK(probs.data.shape().rank() == 2 && probs.data.dim(0) % kv.layout.n_kv == 0,
               "probabilities {} do not say how many query heads share {} KV heads", probs.data.shape().str(),
               kv.layout.n_kv);
    const int n_kv = kv.layout.n_kv, n_q = int(probs.data.dim(0)), group = n_q / n_kv;
    const int batch = kv.batch();
    // KV heads in turn: so that scores may be written over the probabilities they come from.
    parallel_for(threads_, std::int64_t(kv.n_layers()) * batch, [&](std::int64_t at) {
        const LayerState state = layer_state(kv, at, window);
        const int m = state.candidates;
        if (m == 0)
            return;
        const LayerPages pages(kv, int(at / batch), int(at % batch));
        const float* rows = block(probs, at, std::int64_t(n_q) * state.length);
        float* out = block(scores, at, std::int64_t(n_kv) * m);
        std::vector<double> listed(static_cast<std::size_t>(m));
        std::vector<double> sum(static_cast<std::size_t>(m));
        for (int g = 0; g < n_kv; ++g) {
            std::fill(sum.begin(), sum.end(), 0.0);
            for (int h = g * group; h < (g + 1) * group; ++h) {
                const float* row = rows + std::int64_t(h) * state.length;
                for (int i = 0; i < m; ++i)
                    listed[std::size_t(i)] = double(row[pages.order(g, i)]);
                add_pooled(listed, pool, sum);
            }
            for (int i = 0; i < m; ++i)
                out[std::int64_t(g) * m + i] = float(sum[std::size_t(i)] / group);
        }
    });
}

void CpuBackend::decode_evict(Stream, const PagedBatch& kv, const RaggedRows& scores, int window,
                              DecodeOrder order) {
    const int n_kv = kv.layout.n_kv, batch = kv.batch();
    const std::size_t row_bytes = bytes_of(kv.layout.dtype, kv.layout.d_head);
    std::int32_t* lengths = kv.lengths.as<std::int32_t>();
    parallel_for(threads_, std::int64_t(kv.n_layers()) * batch, [&](std::int64_t at) {
        const LayerState state = layer_state(kv, at, window);
        if (state.candidates == 0)
            return;
        const LayerPages pages(kv, int(at / batch), int(at % batch));
        const float* score = block(scores, at, std::int64_t(n_kv) * state.candidates);
        for (int g = 0; g < n_kv; ++g)
            evict_head(pages, row_bytes, state, score + std::int64_t(g) * state.candidates, order, g);
        lengths[at] = state.budget + window;
    });
}

}  // namespace cake
