// The CUDA backend, its kernels on the host (tests/support/simt).
#include "kernels/cuda/cuda_backend.h"
#include "support/backends.h"

namespace cake {

std::vector<BackendCase> backend_cases() {
    const std::vector<DType> tables = {DType::F32, DType::BF16, DType::F16};
    return {
        {"emulated_f32",
         [] { return make_cuda_backend(0, DType::F32); },
         DType::F32,
         {DType::F32},
         tables,
         true},
        {"emulated_bf16",
         [] { return make_cuda_backend(0, DType::BF16); },
         DType::BF16,
         {DType::BF16},
         tables,
         true},
    };
}

}  // namespace cake
