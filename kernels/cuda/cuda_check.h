// Checks of every call of CUDA's libraries. For the files that include CUDA's headers.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime.h>

#include "base/error.h"

namespace cake::gpu::detail {

[[noreturn]] inline void call_failed(const char* file, int line, const char* expression,
                                     const char* name, const char* text) {
    throw Error(fmt::format("{}: {} ({}, {}:{})", name, text, expression, file, line));
}

}  // namespace cake::gpu::detail

#define CUDA_CHECK(expression)                                                     \
    do {                                                                           \
        const cudaError_t cake_status = (expression);                              \
        if (cake_status != cudaSuccess) [[unlikely]]                               \
            ::cake::gpu::detail::call_failed(__FILE_NAME__, __LINE__, #expression, \
                                             cudaGetErrorName(cake_status),        \
                                             cudaGetErrorString(cake_status));     \
    } while (0)

#define CUBLAS_CHECK(expression)                                                               \
    do {                                                                                       \
        const cublasStatus_t cake_status = (expression);                                       \
        if (cake_status != CUBLAS_STATUS_SUCCESS) [[unlikely]]                                 \
            ::cake::gpu::detail::call_failed(__FILE_NAME__, __LINE__, #expression, "cuBLASLt", \
                                             cublasLtGetStatusString(cake_status));            \
    } while (0)
