// cuBLASLt, loaded when first used and not when the program starts: its half a GiB takes a tenth of a second to map, and a
// program that computes on the CPU runs where it is not installed.
#pragma once

#include <cublasLt.h>

#include "kernels/cuda/cuda_check.h"

namespace cake::gpu {

struct CublasLt {
    decltype(&cublasLtGetVersion) version;
    decltype(&cublasLtGetStatusString) status_string;
    decltype(&cublasLtCreate) create;
    decltype(&cublasLtDestroy) destroy;
    decltype(&cublasLtMatrixLayoutCreate) layout_create;
    decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
    decltype(&cublasLtMatmulDescCreate) product_create;
    decltype(&cublasLtMatmulDescDestroy) product_destroy;
    decltype(&cublasLtMatmulDescSetAttribute) product_set;
    decltype(&cublasLtMatmulPreferenceCreate) preference_create;
    decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
    decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
    decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
    decltype(&cublasLtMatmul) matmul;
};

// Throws Error where the library is not found.
const CublasLt& cublas_lt();

}  // namespace cake::gpu

#define CUBLAS_CHECK(expression)                                                               \
    do {                                                                                       \
        const cublasStatus_t cake_status = (expression);                                       \
        if (cake_status != CUBLAS_STATUS_SUCCESS) [[unlikely]]                                 \
            ::cake::gpu::detail::call_failed(__FILE_NAME__, __LINE__, #expression, "cuBLASLt", \
                                             cublas_lt().status_string(cake_status));          \
    } while (0)
