// Rotary position embedding (Su et al., arXiv 2104.09864), on the way from the QKV product to where
// attention reads.
#include <cmath>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/layer_pages.h"
#include "kernels/cpu/parallel.h"

namespace cake {

namespace {

// cos and sin of one position, for the pairs (j, j + d_head / 2).
struct Rotation {
    explicit Rotation(int d_head) : half(std::size_t(d_head) / 2) {}

    void set(std::int64_t position, const float* inv_freq, float scale) {
        for (std::size_t j = 0; j < half; ++j) {
            const float angle = float(position) * inv_freq[j];
            cos[j] = std::cos(angle) * scale;
            sin[j] = std::sin(angle) * scale;
        }
    }

    template <typename T>
    void apply(const float* x, T* out) const {
        for (std::size_t j = 0; j < half; ++j) {
            const float a = x[j], b = x[j + half];
            out[j] = from_float<T>(a * cos[j] - b * sin[j]);
            out[j + half] = from_float<T>(b * cos[j] + a * sin[j]);
        }
    }

    static constexpr std::size_t kMostPairs = 256;
    std::size_t half;
    float cos[kMostPairs];
    float sin[kMostPairs];
};

struct Heads {
    int n_q, n_kv, d_head;
    std::int64_t row() const { return std::int64_t(n_q + 2 * n_kv) * d_head; }
};

Heads heads_of(View qkv, View q, int n_kv, View inv_freq) {
    const Heads heads{int(q.dim(1)), n_kv, int(q.dim(2))};
    CAKE_CHECK(heads.d_head % 2 == 0 && inv_freq.elements() == heads.d_head / 2 &&
                   std::size_t(heads.d_head) / 2 <= Rotation::kMostPairs,
               "{} frequencies for heads of {} elements", inv_freq.elements(), heads.d_head);
    CAKE_CHECK(qkv.elements() == q.dim(0) * heads.row(), "{} split into queries {} and {} KV heads",
               qkv.shape().str(), q.shape().str(), n_kv);
    return heads;
}

// One row of qkv: queries to q [n_q, d_head]; key and value of KV head h to k_of(h) and v_of(h).
template <typename T, typename KeyOf, typename ValueOf>
void split_row(const Heads& heads, const float* qkv, const Rotation& rotation, float* q,
               const KeyOf& k_of, const ValueOf& v_of) {
    const int d = heads.d_head;
    for (int h = 0; h < heads.n_q; ++h, qkv += d)
        rotation.apply(qkv, q + h * d);
    for (int h = 0; h < heads.n_kv; ++h, qkv += d)
        rotation.apply(qkv, static_cast<T*>(k_of(h)));
    for (int h = 0; h < heads.n_kv; ++h, qkv += d) {
        T* v = v_of(h);
        for (int c = 0; c < d; ++c)
            v[c] = from_float<T>(qkv[c]);
    }
}

template <typename T>
void split(int threads, const Heads& heads, View qkv, View inv_freq, float scale,
           std::int64_t first, View q, View k, View v) {
    const std::int64_t n = q.dim(0), capacity = k.dim(1), d = heads.d_head;
    const float *from = qkv.as<float>(), *frequencies = inv_freq.as<float>();
    auto* queries = q.as<float>();
    T *keys = k.as<T>(), *values = v.as<T>();
    parallel_pieces(threads, n, 16, [&](std::int64_t begin, std::int64_t end) {
        Rotation rotation(heads.d_head);
        for (std::int64_t i = begin; i < end; ++i) {
            rotation.set(first + i, frequencies, scale);
            const auto row_of = [&](T* data) {
                return [=](int h) { return data + (h * capacity + first + i) * d; };
            };
            split_row<T>(heads, from + i * heads.row(), rotation, queries + i * heads.n_q * d,
                         row_of(keys), row_of(values));
        }
    });
}

template <typename T>
void append(const Heads& heads, View qkv, View inv_freq, float scale, int layer,
            const PagedBatch& kv, View q) {
    const int batch = kv.batch();
    Rotation rotation(heads.d_head);
    for (int b = 0; b < batch; ++b) {
        const LayerPages pages(kv, layer, b);
        const std::int32_t position = kv.positions.as<std::int32_t>()[b];
        const std::int32_t newest = kv.lengths.as<std::int32_t>()[layer * batch + b] - 1;
        // The order list says which slot the newest token takes; each KV head has its own.
        const auto slot_of = [&](int h) { return pages.order(h, newest); };
        rotation.set(position, inv_freq.as<float>(), scale);
        split_row<T>(
            heads, qkv.as<float>() + b * heads.row(), rotation,
            q.as<float>() + std::int64_t(b) * heads.n_q * heads.d_head,
            [&](int h) { return pages.k<T>(h, slot_of(h)); },
            [&](int h) { return pages.v<T>(h, slot_of(h)); });
        for (int h = 0; h < heads.n_kv; ++h) {
            pages.position(h, slot_of(h)) = position;
            if (kv.layout.running)  // nobody has attended to it yet
                pages.running(h, slot_of(h)) = 0;
        }
    }
}

}  // namespace

void CpuBackend::rope_split(Stream, View qkv, View inv_freq, float scale, std::int64_t first,
                            View q, View k, View v) {
    const Heads heads = heads_of(qkv, q, int(k.dim(0)), inv_freq);
    CAKE_CHECK(first >= 0 && first + q.dim(0) <= k.dim(1) && k.shape() == v.shape(),
               "rows {}..{} of {}", first, first + q.dim(0), k.shape().str());
    if (k.dtype() == DType::BF16)
        split<bf16>(threads_, heads, qkv, inv_freq, scale, first, q, k, v);
    else
        split<float>(threads_, heads, qkv, inv_freq, scale, first, q, k, v);
}

void CpuBackend::rope_append(Stream, View qkv, View inv_freq, float scale, int layer,
                             const PagedBatch& kv, View q) {
    const Heads heads = heads_of(qkv, q, kv.layout.n_kv, inv_freq);
    CAKE_CHECK(q.dim(0) == kv.batch() && heads.d_head == kv.layout.d_head,
               "queries {} for a batch of {}", q.shape().str(), kv.batch());
    if (kv.layout.dtype == DType::BF16)
        append<bf16>(heads, qkv, inv_freq, scale, layer, kv, q);
    else
        append<float>(heads, qkv, inv_freq, scale, layer, kv, q);
}

}  // namespace cake
