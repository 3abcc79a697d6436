// After a decode step: score old slots by the newest token's attention, drop what is over the layer's budget
// (docs/algorithm.md, section 5).
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

float* block(const RaggedRows& rows, std::int64_t at) {
    return rows.data.as<float>() + rows.offsets.as<std::int64_t>()[at];
}

// The states of all (layer, sequence), once it is certain that those that evict have their blocks of
// elements(state) floats. Loops over threads must not throw.
template <typename Elements>
std::vector<LayerState> checked_states(const PagedBatch& kv, const RaggedRows& rows, int window,
                                       const Elements& elements) {
    std::vector<LayerState> states;
    for (std::int64_t at = 0; at < kv.lengths.elements(); ++at) {
        const LayerState& state = states.emplace_back(layer_state(kv, at, window));
        if (state.candidates == 0)
            continue;
        const std::int64_t offset = rows.offsets.as<std::int64_t>()[at];
        CAKE_CHECK(offset >= 0 && offset + elements(state) <= rows.data.elements(),
                   "layer {} evicts and has {} floats at {} of {}", at / kv.batch(),
                   elements(state), offset, rows.data.elements());
    }
    return states;
}

// One token came, one goes: the usual case. The later entries of the list move up, and the slot that is free now
// follows them; nothing moves in memory.
void drop_worst(const LayerPages& pages, const LayerState& state, const float* score, int g,
                std::int32_t* slots) {
    std::uint64_t worst = 0;
    for (int i = 0; i < state.candidates; ++i)
        worst = std::max(worst, rank_key(score[i], std::uint32_t(i)));
    const int n = state.length, gone = int(index_of(worst));
    pages.read_order(g, n, slots);
    std::rotate(slots + gone, slots + gone + 1, slots + n);
    pages.write_order(g, gone, n - gone, slots + gone);
}

// The eviction of one KV head. Slots 0 .. n are all in use; afterwards budget + window of the slots
// 0 .. budget + window are, and the one left over is where the next token goes.
void evict_head(const LayerPages& pages, std::size_t row_bytes, const LayerState& state,
                const float* score, DecodeOrder order, int g, std::int32_t* slots) {
    const int n = state.length, m = state.candidates, kept = state.budget;
    const int left = n - (m - kept);  // entries that stay, the window's included

    if (m - kept == 1 && order == DecodeOrder::Position) {
        drop_worst(pages, state, score, g, slots);
        return;
    }
    pages.read_order(g, n, slots);
    // Candidates that stay come first in `keys`, those that go follow.
    std::vector<std::uint64_t> keys(static_cast<std::size_t>(m));
    for (int i = 0; i < m; ++i)
        keys[std::size_t(i)] = rank_key(score[i], std::uint32_t(i));
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
    list.insert(list.end(), slots + m, slots + n);
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
    pages.write_order(g, 0, n, list.data());
}

}  // namespace

void CpuBackend::decode_scores(Stream, const PagedBatch& kv, const RaggedRows& probs, int window,
                               int pool, float divisor, const RaggedRows& scores) {
    CAKE_CHECK(pool > 0 && pool % 2 == 1, "a pool of {} has no middle", pool);
    CAKE_CHECK(probs.data.shape().rank() == 2 && probs.data.dim(0) % kv.layout.n_kv == 0,
               "probabilities {} do not say how many query heads share {} KV heads",
               probs.data.shape().str(), kv.layout.n_kv);
    const int n_kv = kv.layout.n_kv, n_q = int(probs.data.dim(0)), group = n_q / n_kv;
    const int batch = kv.batch();
    const auto score_elements = [&](const LayerState& s) {
        return std::int64_t(n_kv) * s.candidates;
    };
    checked_states(kv, scores, window, score_elements);
    const std::vector<LayerState> states = checked_states(
        kv, probs, window, [&](const LayerState& s) { return std::int64_t(n_q) * s.length; });
    // KV heads in turn: so that scores may be written over the probabilities they come from.
    parallel_for(threads_, std::int64_t(states.size()), [&](std::int64_t at) {
        const LayerState& state = states[std::size_t(at)];
        const int m = state.candidates;
        if (m == 0)
            return;
        const LayerPages pages(kv, int(at / batch), int(at % batch));
        const float* rows = block(probs, at);
        float* out = block(scores, at);
        const int n = state.length, r = (pool - 1) / 2;
        std::vector<std::int32_t> slots(static_cast<std::size_t>(n));
        std::vector<double> by_slot(static_cast<std::size_t>(n)),
            pooled(static_cast<std::size_t>(m));
        std::vector<double> listed(std::size_t(m + 2 * r), 0.0);  // zeros outside
        for (int g = 0; g < n_kv; ++g) {
            // Pooling is linear, and doubles hold the difference: the heads of the group may be summed first, where
            // they lie side by side.
            std::fill(by_slot.begin(), by_slot.end(), 0.0);
            for (int h = g * group; h < (g + 1) * group; ++h)
                for (int slot = 0; slot < n; ++slot)
                    by_slot[std::size_t(slot)] += rows[std::int64_t(h) * n + slot];
            pages.read_order(g, m, slots.data());
            for (int i = 0; i < m; ++i)
                listed[std::size_t(r + i)] = by_slot[std::size_t(slots[std::size_t(i)])];
            std::fill(pooled.begin(), pooled.end(), 0.0);
            for (int j = 0; j < pool; ++j)
                for (int i = 0; i < m; ++i)
                    pooled[std::size_t(i)] += listed[std::size_t(i + j)];
            for (int i = 0; i < m; ++i)
                out[std::int64_t(g) * m + i] =
                    float(pooled[std::size_t(i)] / (double(pool) * divisor));
        }
    });
}

void CpuBackend::decode_evict(Stream, const PagedBatch& kv, const RaggedRows& scores, int window,
                              DecodeOrder order) {
    const int n_kv = kv.layout.n_kv, batch = kv.batch();
    const std::size_t row_bytes = bytes_of(kv.layout.dtype, kv.layout.d_head);
    std::int32_t* lengths = kv.lengths.as<std::int32_t>();
    const auto score_elements = [&](const LayerState& s) {
        return std::int64_t(n_kv) * s.candidates;
    };
    const std::vector<LayerState> states = checked_states(kv, scores, window, score_elements);
    parallel_for(threads_, std::int64_t(states.size()), [&](std::int64_t at) {
        const LayerState& state = states[std::size_t(at)];
        if (state.candidates == 0)
            return;
        const LayerPages pages(kv, int(at / batch), int(at % batch));
        const float* score = block(scores, at);
        std::vector<std::int32_t> slots(std::size_t(state.length));
        for (int g = 0; g < n_kv; ++g)
            evict_head(pages, row_bytes, state, score + std::int64_t(g) * state.candidates, order,
                       g, slots.data());
        lengths[at] = state.budget + window;
    });
}

}  // namespace cake
