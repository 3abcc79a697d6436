// The CPU, and the GPU where this program has CUDA and the machine a device.
#include <cstdlib>

#include "support/backends.h"
#include "support/reference_dequant.h"

namespace cake {

std::vector<BackendCase> backend_cases() {
    const std::vector<DType> all(std::begin(weight_types), std::end(weight_types));
    std::vector<BackendCase> out = {
        {"cpu_1_thread", [] { return make_cpu_backend(1); }, DType::F32, all, all},
        {"cpu_2_threads", [] { return make_cpu_backend(2); }, DType::F32, all, all},
    };
    if (cuda_devices().count > 0)
        out.push_back({"cuda",
                       [] { return make_cuda_backend(0); },
                       DType::BF16,
                       {DType::BF16},
                       {DType::F32, DType::BF16, DType::F16},
                       std::getenv("CAKE_TEST_SMALL") != nullptr,
                       false});
    return out;
}

}  // namespace cake
