// Prefill attention: the work is cut into blocks of queries of one KV head's group and dealt over
// the threads.
#include <algorithm>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/wide.h"

namespace cake {

void CpuBackend::attention(Stream, View q, View k, View v, std::int64_t first, View out) {
    const std::int64_t n = q.dim(0);
    const int n_q = int(q.dim(1)), n_kv = int(k.dim(0)), d_head = int(q.dim(2));
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
    const float* queries = q.as<float>();
    float* outputs = out.as<float>();
    const int group = n_q / n_kv;

    const WideKernels& wide = wide_kernels();
    const std::int64_t lanes = n * group;
    const std::int64_t blocks = (lanes + wide.attention_lanes - 1) / wide.attention_lanes;
    const std::int64_t scratch_elements = (wide.attention_scratch(d_head) + 15) / 16 * 16;
    const Tensor scratch = Tensor::host(DType::F32, {threads_, scratch_elements});
    float* const scratch_data = scratch.view().as<float>();

    parallel_for_workers(threads_, blocks * n_kv, [&](std::int64_t item, int worker) {
        const std::int64_t head = item % n_kv;
        const std::int64_t block =
            blocks - 1 - item / n_kv;  // the last queries see most keys: longest work first
        const std::size_t kv_offset = bytes_of(k.dtype(), head * k.dim(1) * d_head);
        const GroupAttention task{
            .q = queries + head * group * d_head,
            .out = outputs + head * group * d_head,
            .k = static_cast<const std::byte*>(k.data()) + kv_offset,
            .v = static_cast<const std::byte*>(v.data()) + kv_offset,
            .dtype = k.dtype(),
            .first = first,
            .n = n,
            .n_q = n_q,
            .group = group,
            .d_head = d_head,
        };
        const std::int64_t begin = block * wide.attention_lanes;
        const std::int64_t end = std::min(begin + wide.attention_lanes, lanes);
        wide.attention(task, begin, end, scratch_data + worker * scratch_elements);
    });
}

}  // namespace cake
