// Rotary position embedding of the CUDA backend.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_pages.h"
#include "kernels/cuda/rope.h"

namespace cake {

namespace {

gpu::RopeTask rope_task(View qkv, View inv_freq, float scale, int n_kv, View q) {
    constexpr int most_of_a_head = 512;  // rope.cu: kMostPairs
    const int n_q = int(q.dim(1)), d_head = int(q.dim(2));
    CAKE_CHECK(d_head % 2 == 0 && inv_freq.elements() == d_head / 2 && d_head <= most_of_a_head,
               "{} frequencies for heads of {} elements", inv_freq.elements(), d_head);
    CAKE_CHECK(qkv.elements() == q.dim(0) * (n_q + 2 * n_kv) * d_head,
               "{} split into queries {} and {} KV heads", qkv.shape().str(), q.shape().str(),
               n_kv);
    return {.dtype = q.dtype(),
            .qkv = qkv.data(),
            .inv_freq = inv_freq.as<float>(),
            .scale = scale,
            .q = q.data(),
            .n_q = n_q,
            .n_kv = n_kv,
            .d_head = d_head};
}

}  // namespace

void CudaBackend::rope_split(Stream s, View qkv, View inv_freq, float scale, std::int64_t first,
                             View q, View k, View v) {
    activation(qkv), activation(q);
    CAKE_CHECK(first >= 0 && first + q.dim(0) <= k.dim(1) && k.shape() == v.shape() &&
                   k.dim(2) == q.dim(2) && k.dtype() == v.dtype(),
               "rows {}..{} of {}, queries {}", first, first + q.dim(0), k.shape().str(),
               q.shape().str());
    gpu::rope_split(queue(s), rope_task(qkv, inv_freq, scale, int(k.dim(0)), q), q.dim(0), first,
                    k.dtype(), k.data(), v.data(), k.dim(1));
}

void CudaBackend::rope_append(Stream s, View qkv, View inv_freq, float scale, int layer,
                              const PagedBatch& kv, View q) {
    activation(qkv), activation(q);
    CAKE_CHECK(q.dim(0) == kv.batch() && q.dim(2) == kv.layout.d_head,
               "queries {} for a batch of {}", q.shape().str(), kv.batch());
    gpu::rope_append(queue(s), rope_task(qkv, inv_freq, scale, kv.layout.n_kv, q), layer,
                     cache_batch(kv));
}

}  // namespace cake
