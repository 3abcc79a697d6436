// What this machine's memory and arithmetic reach, with the threads of the backend.
#include <algorithm>
#include <vector>

#include "base/timer.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/parallel.h"

namespace cake {
namespace {

constexpr int kRounds = 5;  // the best counts: a ceiling is what nothing disturbs

template <typename Work>
double best_seconds(const Work& work) {
    double best = 1e9;
    for (int i = 0; i < kRounds; ++i) {
        const Timer timer;
        work();
        best = std::min(best, timer.seconds());
    }
    return best;
}

// Far beyond caches.
double read_gb_s(int threads) {
    constexpr std::int64_t elements = std::int64_t(64) << 20, grain = 1 << 16;
    const Tensor data = Tensor::host(DType::F32, {elements});
    std::fill_n(data.view().as<float>(), elements,
                1.0f);  // pages that were never written read as one
    const float* from = data.view().as<float>();
    std::vector<float> sums(std::size_t(elements / grain));
    const double seconds = best_seconds([&] {
        parallel_for(threads, elements / grain, [&](std::int64_t piece) {
            constexpr int kLanes =
                64;  // enough loads at once that arithmetic does not hold them up
            float sum[kLanes] = {};
            const float* x = from + piece * grain;
            for (std::int64_t i = 0; i < grain; i += kLanes)
                for (int j = 0; j < kLanes; ++j)
                    sum[j] += x[i + j];
            sums[std::size_t(piece)] = *std::max_element(sum, sum + kLanes);
        });
    });
    CAKE_CHECK(sums[0] > 0, "{}", sums[0]);  // the loop's result is wanted
    return double(bytes_of(DType::F32, elements)) / seconds / 1e9;
}

}  // namespace

Ceilings CpuBackend::ceilings() {
    constexpr std::int64_t n = 2048;
    const Tensor x = Tensor::host(DType::F32, {n, n}), weight = Tensor::host(DType::F32, {n, n}),
                 out = Tensor::host(DType::F32, {n, n});
    std::fill_n(x.view().as<float>(), n * n, 1.0f);
    std::fill_n(weight.view().as<float>(), n * n, 1.0f);
    omp_set_num_threads(threads_);
    const double gemm_s = best_seconds([&] {
        dnnl_->matmul(x.view().as<float>(), weight.view().as<float>(), nullptr, n, n, n,
                      out.view().as<float>(), n);
    });
    return {read_gb_s(threads_), 2.0 * n * n * n / gemm_s / 1e12};
}

}  // namespace cake
