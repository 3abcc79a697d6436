// What every .cu includes first. The same source is compiled by nvcc for the device and, with CAKE_SIMT, by g++ for a
// machine on the host that runs it thread by thread (tests/support/simt). The rules that keep both together:
//
//   shared memory      CAKE_SHARED(float, partial, [32]);   CAKE_DYNAMIC_SHARED(float, row);
//   launch             launch(queue, kernel<T>, grid, block, shared_bytes, arguments...);   never <<<>>>
//   PTX                only in ptx.cuh, which has a twin in tests/support/simt/tensor_core.h
//   16-bit floats      cake::bf16 and cake::f16; convert with widen and narrow (vec.cuh)
//   barriers           all threads of a block reach each __syncthreads; none returns before the last one
//   includes           kernel.h, *.cuh, base/dtype.h, the family's own launchers: nvcc stays fast
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "kernels/cuda/launch.h"

#ifdef CAKE_SIMT
#include "simt/simt.h"
#else
#include <cuda_runtime.h>

#include "kernels/cuda/ptx.cuh"

#define CAKE_SHARED(type, name, ...) __shared__ __align__(16) type name __VA_ARGS__
#define CAKE_DYNAMIC_SHARED(type, name)                                         \
    extern __shared__ __align__(16) unsigned char cake_dynamic_shared_memory[]; \
    type* name = reinterpret_cast<type*>(cake_dynamic_shared_memory)

namespace cake::gpu {

// Puts a kernel into a queue. An empty grid is nothing to do. Throws Error where it cannot start.
template <typename... Parameters, typename... Arguments>
void launch(LaunchSite site, void (*kernel)(Parameters...), dim3 grid, dim3 block,
            std::size_t shared_bytes, Arguments... arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0)
        return;
    // A failure shows in the launch. Never less than before for kernels in captured graphs, which take 48 KiB at most.
    if (shared_bytes > unasked_shared_bytes)
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             std::max(int(shared_bytes), 48 * 1024));
    kernel<<<grid, block, shared_bytes, site.queue>>>(static_cast<Parameters>(arguments)...);
    launched(site);
}

}  // namespace cake::gpu
#endif

namespace cake::gpu {

template <typename T>
struct TypeTag {
    using type = T;
};

// Calls f with the tag of the type: F32 and BF16, of activations and caches.
template <typename F>
void with_activation_type(DType dtype, F f,
                          std::source_location at = std::source_location::current()) {
    switch (dtype) {
        case DType::F32: return f(TypeTag<float>());
        case DType::BF16: return f(TypeTag<bf16>());
        default: refuse_type(dtype, at);
    }
}

// F32, BF16 and F16, of weights.
template <typename F>
void with_weight_type(DType dtype, F f, std::source_location at = std::source_location::current()) {
    if (dtype == DType::F16)
        return f(TypeTag<f16>());
    with_activation_type(dtype, f, at);
}

// Blocks of `size` that cover n.
inline unsigned blocks_for(std::int64_t n, std::int64_t size) {
    return unsigned((n + size - 1) / size);
}

}  // namespace cake::gpu
