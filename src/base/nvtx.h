// Named ranges for NVIDIA's profilers: Nsight Systems shows them above the kernels.
#pragma once

namespace cake {

// While it lives. Nothing in a build without CUDA, and next to nothing where no profiler listens.
class NvtxRange {
public:
    explicit NvtxRange(const char* name);  // of static storage
    ~NvtxRange();
    NvtxRange(const NvtxRange&) = delete;
    NvtxRange& operator=(const NvtxRange&) = delete;
};

}  // namespace cake
