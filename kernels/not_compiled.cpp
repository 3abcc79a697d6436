// What this build was made without.
#include "kernels/backend.h"

namespace cake {

std::unique_ptr<Backend> make_cuda_backend(int) { throw NotCompiled("the CUDA backend"); }
CudaDevices cuda_devices() { return {0, "CUDA is not part of this build"}; }

}  // namespace cake
