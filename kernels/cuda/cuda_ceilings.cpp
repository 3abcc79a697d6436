// What a GPU's memory and matrix products reach.
#include <algorithm>

#include "kernels/cuda/cuda_backend.h"

namespace cake {
namespace {

// The best of a few runs, after one that warms up, by the device's own clock.
template <typename Work>
double best_seconds(gpu::Queue queue, const Work& work) {
    constexpr int runs = 5;
    double best = 1e9;
    for (int i = 0; i <= runs; ++i) {
        const gpu::OwnedEvent begin = gpu::make_event(), end = gpu::make_event();
        gpu::record(begin, queue);
        work();
        gpu::record(end, queue);
        gpu::synchronize(queue);
        if (i > 0)
            best = std::min(best, gpu::seconds_between(begin, end));
    }
    return best;
}

// Numbers between -1 and 1: with zeros a GPU takes less power, and its clock is higher than it will be.
Tensor random_matrix(Backend& dev, DType dtype, std::int64_t side) {
    Tensor out = dev.tensor(dtype, {side, side});
    dev.fill_random({}, {.key = 1, .columns = side, .range = 2}, 0, 0, out);
    return out;
}

}  // namespace

// A copy within the device, which reads and writes each byte and is larger than any cache; a product of three times 128 MiB.
// A small device, as the emulated one, is full with less.
Ceilings CudaBackend::ceilings() {
    const bool large = gpu::device_properties(device_).multiprocessors >= 16;
    const std::int64_t copied = large ? std::int64_t(512) << 20 : 4 << 20;
    const std::int64_t side = large ? 8192 : 256;
    const gpu::Queue q = queue({});
    Ceilings out;
    {
        const Tensor from = tensor(DType::U8, {copied}), to = tensor(DType::U8, {copied});
        fill_zero({}, from);
        out.read_gb_s = 2e-9 * double(copied) / best_seconds(q, [&] { copy({}, to, from); });
    }
    const Tensor x = random_matrix(*this, activations_, side),
                 w = random_matrix(*this, activations_, side),
                 product = tensor(activations_, {side, side});
    const double seconds = best_seconds(q, [&] { linear({}, x, {w, {}}, product); });
    out.gemm_tflop_s = 2e-12 * double(side * side * side) / seconds;
    return out;
}

}  // namespace cake
