// Kernels with a bug each, to see that the checks of the emulation find it: planted_bugs none|missing_barrier|
// missing_warp_sync|missing_copy_barrier|out_of_bounds|past_dynamic|past_global. Compiled with ThreadSanitizer and with
// AddressSanitizer; with `none` and without a finding it ends well.
#include <cstdio>
#include <cstring>
#include <vector>

#include "kernels/cuda/kernel.h"

namespace cake::gpu {
namespace {

enum class Bug {
    None,
    MissingBarrier,
    MissingWarpSync,
    MissingCopyBarrier,
    OutOfBounds,
    PastDynamic,
    PastGlobal
};

constexpr int kThreads = 64;

__global__ void exchange(Bug bug, const float* from, float* out) {
    CAKE_SHARED(float, values, [kThreads]);
    CAKE_SHARED(float, of_warps, [kThreads]);
    CAKE_SHARED(float, copied, [4 * kThreads]);
    CAKE_DYNAMIC_SHARED(float, more);
    const unsigned t = threadIdx.x;

    values[t] = float(t);
    if (bug != Bug::MissingBarrier)
        __syncthreads();
    out[t] = values[kThreads - 1 - t];

    of_warps[t] = float(t);
    if (bug != Bug::MissingWarpSync)
        __syncwarp();
    out[t] += of_warps[t ^ 1];

    cp_async16(copied + 4 * t, from + 4 * t);
    cp_async_commit();
    cp_async_wait<0>();
    if (bug != Bug::MissingCopyBarrier)
        __syncthreads();
    out[t] += copied[4 * (kThreads - 1 - t)];

    more[t + (bug == Bug::PastDynamic)] = 1;
    if (bug == Bug::OutOfBounds)
        values[t + 1] = 1;
    if (bug == Bug::PastGlobal)
        out[t + 1] = 1;
}

Bug bug_of(const char* name) {
    const char* const names[] = {
        "none",          "missing_barrier", "missing_warp_sync", "missing_copy_barrier",
        "out_of_bounds", "past_dynamic",    "past_global"};
    for (int i = 0; i < int(std::size(names)); ++i)
        if (std::strcmp(name, names[i]) == 0)
            return Bug(i);
    std::fprintf(stderr, "no bug is called %s\n", name);
    std::exit(2);
}

}  // namespace
}  // namespace cake::gpu

int main(int argc, char** argv) {
    using namespace cake::gpu;
    const std::vector<float> from(4 * kThreads, 1);
    std::vector<float> out(kThreads);
    launch(Queue(), exchange, dim3(3), dim3(kThreads), kThreads * sizeof(float),
           bug_of(argc > 1 ? argv[1] : "none"), from.data(), out.data());
    std::puts("the kernel has ended");
}
