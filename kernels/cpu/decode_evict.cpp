// After a decode step: drop the worst of what is over the layer's budget
// (docs/algorithm.md, section 5).
#include <algorithm>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/decode_state.h"
#include "kernels/cpu/layer_pages.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/rank_key.h"

namespace cake {
namespace {

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
void evict_head(const LayerPages& pages, const LayerState& state, const float* score,
                DecodeOrder order, int g, std::int32_t* slots) {
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
        pages.move(g, to, slot);
        slot = to;
    }
    list.push_back(holes[filled]);
    for (int i = left + 1; i < n; ++i)
        list.push_back(i);
    pages.write_order(g, 0, n, list.data());
}

}  // namespace

void CpuBackend::decode_evict(Stream, const PagedBatch& kv, const RaggedRows& scores, int window,
                              DecodeOrder order) {
    const int n_kv = kv.layout.n_kv, batch = kv.batch();
    const std::int64_t n_rows = scores.data ? scores.data.dim(0) : 0;
    CAKE_CHECK(n_rows == n_kv || n_rows == 1 || (n_rows == 0 && kv.layout.running),
               "{} rows of scores for {} KV heads, and pages {} running sums", n_rows, n_kv,
               kv.layout.running ? "with" : "without");
    std::int32_t* lengths = kv.lengths.as<std::int32_t>();
    const std::vector<LayerState> states = layer_states(kv, window);
    check_blocks(kv, states, scores, [&](const LayerState& s) { return n_rows * s.candidates; });
    parallel_for(threads_, std::int64_t(states.size()), [&](std::int64_t at) {
        const LayerState& state = states[std::size_t(at)];
        if (state.candidates == 0)
            return;
        const LayerPages pages(kv, int(at / batch), int(at % batch));
        std::vector<std::int32_t> slots(std::size_t(state.length));
        std::vector<float> running(n_rows == 0 ? std::size_t(state.candidates) : 0);
        for (int g = 0; g < n_kv; ++g) {
            const float* score = running.data();
            if (n_rows > 0)
                score = block(scores, at) + (n_rows == 1 ? 0 : std::int64_t(g) * state.candidates);
            else
                for (int i = 0; i < state.candidates; ++i)
                    running[std::size_t(i)] = pages.running(g, pages.order(g, i));
            evict_head(pages, state, score, order, g, slots.data());
        }
        lengths[at] = state.budget + window;
    });
}

}  // namespace cake
