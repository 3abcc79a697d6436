// Sums of attention columns over all queries of a prompt, chunk by chunk (docs/policies.md, h2o).
#include <algorithm>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/wide_cache.h"

namespace cake {

namespace {

constexpr std::int64_t kRowsPerTask = 256;
constexpr std::int64_t kBlocksPerTask = 8;

}  // namespace

// Two passes over the keys: a row's probabilities need its sum first. The first is dealt out by rows, the second by
// columns, so that each number is made by one thread, in one order, and nothing is joined.
void CpuBackend::column_sums(Stream, View q, View k, std::int64_t first, View sums) {
    const std::int64_t n = q.dim(0), S = sums.dim(1), n_keys = first + n;
    const int n_q = int(q.dim(1)), n_kv = int(k.dim(0)), d_head = int(q.dim(2));
    CAKE_CHECK(n_q % n_kv == 0 && k.dim(2) == d_head, "columns of {} over keys {}", q.shape().str(),
               k.shape().str());
    CAKE_CHECK(k.dtype() == DType::F32 || k.dtype() == DType::BF16, "columns over {} keys",
               cake::name(k.dtype()));
    CAKE_CHECK(first >= 0 && n_keys <= k.dim(1) && n_keys <= S && sums.dim(0) == n_q,
               "queries {}..{} over keys {} into sums {}", first, n_keys, k.shape().str(),
               sums.shape().str());
    const int group = n_q / n_kv;
    const auto heads_of = [&](std::int64_t g) {
        return CausalHeads{
            .q = q.as<float>() + g * group * d_head,
            .k = static_cast<const std::byte*>(k.data()) +
                 bytes_of(k.dtype(), g * k.dim(1) * d_head),
            .dtype = k.dtype(),
            .first = first,
            .n = n,
            .n_q = n_q,
            .group = group,
            .d_head = d_head,
        };
    };
    const CacheKernels& wide = cache_kernels();
    const std::int64_t scratch_elements = (wide.column_scratch(d_head) + 15) / 16 * 16;
    const Tensor scratch = Tensor::host(DType::F32, {threads_, scratch_elements});
    const auto scratch_of = [&](int worker) {
        return scratch.view().as<float>() + worker * scratch_elements;
    };

    const std::int64_t rows = group * n;  // of one KV head
    std::vector<float> max(std::size_t(n_kv * rows)), inverse(max.size());
    std::vector<double> sum(max.size());
    const std::int64_t row_blocks = (n + kRowsPerTask - 1) / kRowsPerTask;
    parallel_for_workers(threads_, n_kv * row_blocks, [&](std::int64_t task, int worker) {
        const std::int64_t g = task % n_kv;
        const std::int64_t begin = (row_blocks - 1 - task / n_kv) * kRowsPerTask;  // longest first
        wide.row_sums(heads_of(g), begin, std::min(begin + kRowsPerTask, n), scratch_of(worker),
                      max.data() + g * rows, sum.data() + g * rows);
    });
    std::transform(sum.begin(), sum.end(), inverse.begin(), [](double x) { return float(1 / x); });

    const std::int64_t keys_per_task = kBlocksPerTask * wide.column_block;
    const std::int64_t column_blocks = (n_keys + keys_per_task - 1) / keys_per_task;
    parallel_for_workers(threads_, n_kv * column_blocks, [&](std::int64_t task, int worker) {
        const std::int64_t g = task % n_kv, begin = task / n_kv * keys_per_task;
        wide.column_sums(heads_of(g), max.data() + g * rows, inverse.data() + g * rows, begin,
                         std::min(begin + keys_per_task, n_keys), scratch_of(worker),
                         sums.as<float>() + g * group * S, S);
    });
}

}  // namespace cake
