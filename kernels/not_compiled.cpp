// What this build was made without.
#include "kernels/backend.h"
#include "kernels/cuda/device.h"

namespace cake {

std::unique_ptr<Backend> make_cuda_backend(int, int) { throw NotCompiled("the CUDA backend"); }
CudaDevices cuda_devices() { return {0, gpu::count_devices().reason}; }
CUstream_st* cuda_queue(Backend&, Stream) { throw NotCompiled("the CUDA backend"); }
std::shared_ptr<void> cuda_while_waiting(Backend&, std::function<void()>) {
    throw NotCompiled("the CUDA backend");
}

namespace gpu {

DeviceCount count_devices() noexcept { return {0, "CUDA is not part of this build"}; }
DeviceProperties device_properties(int) { throw NotCompiled("the CUDA backend"); }
Versions versions() noexcept { return {}; }

}  // namespace gpu

}  // namespace cake
