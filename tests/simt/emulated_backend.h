// The CUDA backend, and something in its memory.
#pragma once

#include "kernels/cuda/cuda_backend.h"
#include "support/backends.h"

namespace cake {

class EmulatedBackend : public testing::Test {
protected:
    // Calls of a look while `work` ran, and while the host waited for something that came before.
    int looks_during(const std::function<void()>& work) {
        int looks = 0;
        dev_->fill_zero({}, on_device_);
        const auto watch = cuda_while_waiting(*dev_, [&] { ++looks; });
        work();
        return looks;
    }

    std::unique_ptr<Backend> dev_ = make_cuda_backend(0, DType::F32);
    Tensor on_device_ = dev_->tensor(DType::F32, {8});
};

}  // namespace cake
