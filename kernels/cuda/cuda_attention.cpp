// Attention of a prompt's chunks.
#include "kernels/cuda/cuda_backend.h"

namespace cake {

void CudaBackend::attention(Stream s, View q, View k, View v, std::int64_t first, View out) {
    const std::int64_t n = q.dim(0), n_q = q.dim(1), n_kv = k.dim(0), d_head = q.dim(2);
    CAKE_CHECK(d_head % 8 == 0 && d_head <= 256, "heads of {} elements", d_head);
    CAKE_CHECK(n_q % n_kv == 0, "{} query heads over {} KV heads", n_q, n_kv);
    CAKE_CHECK(out.shape() == q.shape() && k.shape() == v.shape() && k.dim(2) == d_head &&
                   k.dtype() == v.dtype(),
               "attention of {} over {} into {}", q.shape().str(), k.shape().str(),
               out.shape().str());
    CAKE_CHECK(k.dtype() == DType::F32 || k.dtype() == DType::BF16, "attention over {} keys",
               cake::name(k.dtype()));
    CAKE_CHECK(first >= 0 && first + n <= k.dim(1), "keys {}..{} of {}", first, first + n,
               k.dim(1));
    const gpu::AttentionTask task{.dtype = activations_,
                                  .cache_type = k.dtype(),
                                  .q = activation(q),
                                  .k = k.data(),
                                  .v = v.data(),
                                  .out = activation(out),
                                  .capacity = k.dim(1),
                                  .n = int(n),
                                  .first = int(first),
                                  .n_q = int(n_q),
                                  .group = int(n_q / n_kv),
                                  .d_head = int(d_head)};
    if (const auto work_bytes = cudnn_.work_bytes(task)) {
        void* const work = scratch_or_null(s, *work_bytes);
        if (work || *work_bytes == 0)
            return cudnn_.run(queue(s), task, work);
        cudnn_.do_without(fmt::format("no {} bytes of device memory for it", *work_bytes));
    }
    gpu::attention(queue(s), task);
}

}  // namespace cake
