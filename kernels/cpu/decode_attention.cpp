// Attention of newest tokens over the pages of their sequences.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/layer_pages.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/wide_cache.h"

namespace cake {

namespace {

// One piece of the work: kDecodeSplit slots, or what is left of them, of a KV head of a sequence.
struct Piece {
    int b, g, first_slot, n_slots;
};

// Where piece i leaves its part of the softmax: [group] rows.
struct Parts {
    Parts(std::size_t n_pieces, int group, int d_head)
        : out(n_pieces * std::size_t(group) * std::size_t(d_head)),
          max(n_pieces * std::size_t(group)),
          sum(max.size()) {}
    std::vector<float> out, max, sum;
};

// The runs of slots that a piece covers. Returns their number.
int page_runs(const LayerPages& pages, const Piece& piece, SlotRun* runs) {
    int n_runs = 0;
    for (int slot = piece.first_slot, end = slot + piece.n_slots; slot < end;) {
        const int n = std::min(pages.run(slot), end - slot);
        runs[n_runs++] = {pages.k_bytes(piece.g, slot), pages.v_bytes(piece.g, slot), n};
        slot += n;
    }
    return n_runs;
}

// Softmax over all slots out of those over pieces, in order: each is weighted by its share of the whole sum.
// weights: one for each piece of a query head.
void piece_weights(const float* max, const float* sum, std::size_t n_pieces, std::size_t stride,
                   float* weights) {
    float most = std::numeric_limits<float>::lowest();
    for (std::size_t s = 0; s < n_pieces; ++s)
        most = std::max(most, max[s * stride]);
    double total = 0;
    for (std::size_t s = 0; s < n_pieces; ++s)
        total += double(sum[s * stride]) * std::exp(double(max[s * stride]) - double(most));
    for (std::size_t s = 0; s < n_pieces; ++s)
        weights[s] = float(std::exp(double(max[s * stride]) - double(most)) / total);
}

}  // namespace

void CpuBackend::begin_step(Stream, const PagedBatch& kv) {
    for (std::int32_t& length : kv.lengths.span<std::int32_t>())
        ++length;
    for (std::int32_t& position : kv.positions.span<std::int32_t>())
        ++position;
}

void CpuBackend::decode_attention(Stream, View q, int layer, const PagedBatch& kv,
                                  const RaggedRows& probs, View out) {
    const PageLayout& layout = kv.layout;
    const int batch = kv.batch(), n_kv = layout.n_kv, d_head = layout.d_head;
    const int n_q = int(q.dim(1)), group = n_q / n_kv;
    CAKE_CHECK(
        q.dim(0) == batch && q.dim(2) == d_head && out.shape() == q.shape() && n_q % n_kv == 0,
        "queries {} into {}, a batch of {} with {} KV heads of {}", q.shape().str(),
        out.shape().str(), batch, n_kv, d_head);
    CAKE_CHECK(layout.dtype == DType::F32 || layout.dtype == DType::BF16, "attention over {} pages",
               cake::name(layout.dtype));
    const std::int32_t* lengths = kv.lengths.as<std::int32_t>() + std::int64_t(layer) * batch;
    const std::int64_t* offsets =
        probs.offsets ? probs.offsets.as<std::int64_t>() + std::int64_t(layer) * batch : nullptr;
    float* const rows = probs.data ? probs.data.as<float>() : nullptr;
    const auto row_of = [&](int b, int h) {  // [length], or null where none is wanted
        return offsets && offsets[b] >= 0 ? rows + offsets[b] + std::int64_t(h) * lengths[b]
                                          : nullptr;
    };

    // Pieces of (sequence, KV head) lie together: `first_piece` says from where.
    std::vector<Piece> pieces;
    std::vector<std::size_t> first_piece;
    for (int b = 0; b < batch; ++b) {
        CAKE_CHECK(!offsets || offsets[b] < 0 ||
                       offsets[b] + std::int64_t(n_q) * lengths[b] <= probs.data.elements(),
                   "{} rows of {} probabilities at {} of {}", n_q, lengths[b], offsets[b],
                   probs.data.elements());
        for (int g = 0; g < n_kv; ++g) {
            first_piece.push_back(pieces.size());
            for (int slot = 0; slot < lengths[b]; slot += kDecodeSplit)
                pieces.push_back({b, g, slot, std::min(kDecodeSplit, lengths[b] - slot)});
        }
    }
    first_piece.push_back(pieces.size());

    const CacheKernels& wide = cache_kernels();
    const std::size_t group_size = std::size_t(group), d = std::size_t(d_head);
    Parts parts(pieces.size(), group, d_head);
    std::vector<float> scaled(std::size_t(q.elements()));
    const float scale = 1.0f / std::sqrt(float(d_head));
    std::transform(q.as<float>(), q.as<float>() + q.elements(), scaled.begin(),
                   [=](float x) { return x * scale; });
    const std::int64_t weight_elements = std::int64_t(group) * kDecodeSplit;
    const Tensor scratch = Tensor::host(DType::F32, {threads_, weight_elements});
    parallel_for_workers(threads_, std::int64_t(pieces.size()), [&](std::int64_t i, int worker) {
        const Piece& piece = pieces[std::size_t(i)];
        float* weights = scratch.view().as<float>() + worker * weight_elements;
        SlotRun runs[kDecodeSplit];
        const DecodeSplit split{
            .q = scaled.data() + (std::int64_t(piece.b) * n_q + piece.g * group) * d_head,
            .runs = runs,
            .n_runs = page_runs(LayerPages(kv, layer, piece.b), piece, runs),
            .group = group,
            .d_head = d_head,
            .dtype = layout.dtype,
        };
        const DecodePartial part{
            .weights = weights,
            .out = parts.out.data() + std::size_t(i) * group_size * d,
            .max = parts.max.data() + std::size_t(i) * group_size,
            .sum = parts.sum.data() + std::size_t(i) * group_size,
        };
        wide.decode_split(split, part);
        for (int h = 0; h < group; ++h)
            if (float* row = row_of(piece.b, piece.g * group + h))
                std::copy_n(weights + h * kDecodeSplit, piece.n_slots, row + piece.first_slot);
    });

    parallel_pieces(
        threads_, std::int64_t(batch) * n_q, 8, [&](std::int64_t begin, std::int64_t end) {
            std::vector<float> weights;
            for (std::int64_t i = begin; i < end; ++i) {
                const int b = int(i / n_q), h = int(i % n_q);
                const std::size_t first = first_piece[std::size_t(b * n_kv + h / group)];
                const std::size_t n = first_piece[std::size_t(b * n_kv + h / group) + 1] - first;
                const std::size_t at = first * group_size + std::size_t(h % group);
                weights.resize(n);
                piece_weights(parts.max.data() + at, parts.sum.data() + at, n, group_size,
                              weights.data());
                float* result = out.as<float>() + i * d_head;
                std::fill_n(result, d, 0.0f);
                for (std::size_t s = 0; s < n; ++s) {
                    const float* part = parts.out.data() + (at + s * group_size) * d;
                    for (std::size_t c = 0; c < d; ++c)
                        result[c] += weights[s] * part[c];
                    if (float* row = row_of(b, h)) {
                        const Piece& piece = pieces[first + s];
                        for (int slot = piece.first_slot; slot < piece.first_slot + piece.n_slots;
                             ++slot)
                            row[slot] *= weights[s];
                    }
                }
            }
        });
}

}  // namespace cake
