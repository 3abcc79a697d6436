// Checks of every call of the CUDA runtime. For the files that include its header.
#pragma once

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
