// What the newest token attended to, made into scores of old slots (docs/algorithm.md, section 5; docs/policies.md).
#include <algorithm>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/decode_state.h"
#include "kernels/cpu/layer_pages.h"
#include "kernels/cpu/parallel.h"

namespace cake {
namespace {

// Query heads of a KV head's group.
int group_of(const PagedBatch& kv, const RaggedRows& probs) {
    CAKE_CHECK(probs.data.shape().rank() == 2 && probs.data.dim(0) % kv.layout.n_kv == 0,
               "probabilities {} do not say how many query heads share {} KV heads",
               probs.data.shape().str(), kv.layout.n_kv);
    return int(probs.data.dim(0)) / kv.layout.n_kv;
}

// by_slot = sum of a group's rows [group, n], in head order. Doubles: what is added to it later hardly rounds.
void sum_heads(const float* rows, int group, int n, std::vector<double>& by_slot) {
    by_slot.assign(std::size_t(n), 0.0);
    for (int h = 0; h < group; ++h)
        for (int slot = 0; slot < n; ++slot)
            by_slot[std::size_t(slot)] += rows[std::int64_t(h) * n + slot];
}

// out[i] = the sum of pool values from listed[i], / divisor.
void pool_into(const std::vector<double>& listed, int pool, double divisor, int m, float* out) {
    std::vector<double> pooled(std::size_t(m), 0.0);
    for (int j = 0; j < pool; ++j)
        for (int i = 0; i < m; ++i)
            pooled[std::size_t(i)] += listed[std::size_t(i + j)];
    for (int i = 0; i < m; ++i)
        out[i] = float(pooled[std::size_t(i)] / divisor);
}

}  // namespace

void CpuBackend::decode_scores(Stream, const PagedBatch& kv, const RaggedRows& probs, int window,
                               int pool, float divisor, const RaggedRows& scores) {
    CAKE_CHECK(pool > 0 && pool % 2 == 1, "a pool of {} has no middle", pool);
    const int n_kv = kv.layout.n_kv, group = group_of(kv, probs), batch = kv.batch();
    const int n_rows = int(scores.data.dim(0)), heads_of_row = n_kv / n_rows;
    CAKE_CHECK(n_rows == n_kv || n_rows == 1, "{} rows of scores for {} KV heads", n_rows, n_kv);
    const std::vector<LayerState> states = layer_states(kv, window);
    check_blocks(kv, states, scores,
                 [&](const LayerState& s) { return std::int64_t(n_rows) * s.candidates; });
    check_blocks(kv, states, probs, [&](const LayerState& s) {
        return s.candidates > 0 ? std::int64_t(n_kv) * group * s.length : 0;
    });
    // KV heads in turn: so that scores may be written over the probabilities they come from.
    parallel_for(threads_, std::int64_t(states.size()), [&](std::int64_t at) {
        const LayerState& state = states[std::size_t(at)];
        const int m = state.candidates;
        if (m == 0)
            return;
        const LayerPages pages(kv, int(at / batch), int(at % batch));
        const int n = state.length, r = (pool - 1) / 2;
        std::vector<std::int32_t> slots(static_cast<std::size_t>(n));
        std::vector<double> by_slot, listed;
        for (int g = 0; g < n_kv; ++g) {
            // Pooling is linear, and doubles hold the difference: the heads may be summed first, where they lie side by
            // side.
            sum_heads(block(probs, at) + std::int64_t(g) * group * n, group, n, by_slot);
            if (g % heads_of_row == 0)
                listed.assign(std::size_t(m + 2 * r), 0.0);  // zeros outside
            pages.read_order(g, m, slots.data());
            for (int i = 0; i < m; ++i)
                listed[std::size_t(r + i)] += by_slot[std::size_t(slots[std::size_t(i)])];
            if ((g + 1) % heads_of_row == 0)
                pool_into(listed, pool, double(pool) * divisor, m,
                          block(scores, at) + std::int64_t(g / heads_of_row) * m);
        }
    });
}

void CpuBackend::decode_means(Stream, const PagedBatch& kv, const RaggedRows& probs, float divisor,
                              const RaggedRows& means) {
    const int n_kv = kv.layout.n_kv, group = group_of(kv, probs);
    const std::vector<LayerState> states = layer_states(kv, 0);
    check_blocks(kv, states, probs,
                 [&](const LayerState& s) { return std::int64_t(n_kv) * group * s.length; });
    check_blocks(kv, states, means,
                 [&](const LayerState& s) { return std::int64_t(n_kv) * s.length; });
    parallel_for(threads_, std::int64_t(states.size()), [&](std::int64_t at) {
        const int n = states[std::size_t(at)].length;
        std::vector<double> by_slot;
        for (int g = 0; g < n_kv; ++g) {
            sum_heads(block(probs, at) + std::int64_t(g) * group * n, group, n, by_slot);
            std::transform(by_slot.begin(), by_slot.end(), block(means, at) + std::int64_t(g) * n,
                           [=](double sum) { return float(sum / divisor); });
        }
    });
}

void CpuBackend::add_running(Stream, const PagedBatch& kv, const RaggedRows& means) {
    CAKE_CHECK(kv.layout.running, "pages without room for running sums");
    const int n_kv = kv.layout.n_kv, batch = kv.batch();
    const std::vector<LayerState> states = layer_states(kv, 0);
    check_blocks(kv, states, means,
                 [&](const LayerState& s) { return std::int64_t(n_kv) * s.length; });
    parallel_for(threads_, std::int64_t(states.size()), [&](std::int64_t at) {
        const LayerPages pages(kv, int(at / batch), int(at % batch));
        const float* mean = block(means, at);
        for (int g = 0; g < n_kv; ++g)
            for (int slot = 0; slot < states[std::size_t(at)].length; ++slot)
                pages.running(g, slot) += *mean++;
    });
}

}  // namespace cake
