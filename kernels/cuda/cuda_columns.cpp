// Sums of attention columns over all queries of a prompt, chunk by chunk (docs/policies.md, h2o).
#include "kernels/cuda/columns.h"
#include "kernels/cuda/cuda_backend.h"

namespace cake {

void CudaBackend::column_sums(Stream s, View q, View k, std::int64_t first, View sums) {
    const std::int64_t n = q.dim(0), n_q = q.dim(1), n_kv = k.dim(0), d_head = q.dim(2);
    constexpr std::int64_t most = 512;  // two tiles of 32 rows fit into shared memory
    CAKE_CHECK(n_q % n_kv == 0 && k.dim(2) == d_head, "columns of {} over keys {}", q.shape().str(),
               k.shape().str());
    CAKE_CHECK(d_head <= most, "heads of {} elements", d_head);
    CAKE_CHECK(k.dtype() == DType::F32 || k.dtype() == DType::BF16, "columns over {} keys",
               cake::name(k.dtype()));
    CAKE_CHECK(
        first >= 0 && first + n <= k.dim(1) && first + n <= sums.dim(1) && sums.dim(0) == n_q,
        "queries {}..{} over keys {} into sums {}", first, first + n, k.shape().str(),
        sums.shape().str());
    auto* const row_sums = static_cast<float*>(scratch(s, gpu::column_scratch_bytes(n_q, n)));
    gpu::column_sums(queue(s), {.dtype = activations_,
                                .cache_type = k.dtype(),
                                .q = activation(q),
                                .k = k.data(),
                                .sums = sums.as<float>(),
                                .top = row_sums,
                                .inverse = row_sums + n_q * n,
                                .capacity = k.dim(1),
                                .n_columns = sums.dim(1),
                                .n = int(n),
                                .first = int(first),
                                .n_q = int(n_q),
                                .group = int(n_q / n_kv),
                                .d_head = int(d_head)});
}

}  // namespace cake
