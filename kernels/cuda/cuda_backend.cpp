#include "kernels/cuda/cuda_backend.h"

#include <cstdlib>
#include <string_view>

namespace cake {

namespace {

// Selected before any member is made: queues and events belong to the current device.
int used(int device) {
    gpu::use_device(device);
    return device;
}

bool environment_says(const char* name, std::string_view value) {
    const char* const set = std::getenv(name);
    return set && set == value;
}

}  // namespace

CudaBackend::CudaBackend(int device, DType activations, int ranks)
    : device_(used(device)),
      ranks_(ranks),
      activations_(activations),
      captures_(!environment_says("CAKE_GRAPHS", "0") && !environment_says("CAKE_SYNC", "1")),
      pool_(std::make_shared<CudaPool>()) {
    CAKE_CHECK(activations == DType::F32 || activations == DType::BF16, "activations of {}",
               cake::name(activations));
}

CudaBackend::~CudaBackend() = default;

DeviceInfo CudaBackend::info() const {
    const gpu::DeviceMemory memory = gpu::device_memory();
    return {.name = gpu::device_properties(device_).name,
            .memory_bytes = memory.total_bytes,
            .free_bytes = memory.free_bytes,
            .own_memory = true,
            .ranks = ranks_,
            .peak_bytes = pool_->peak_bytes(),
            .used_bytes = memory.total_bytes - memory.free_bytes};
}

gpu::Queue CudaBackend::queue(Stream s) {
    CAKE_CHECK(s.index >= 0, "stream {}", s.index);
    while (queues_.size() <= std::size_t(s.index))
        queues_.push_back(gpu::make_queue());
    return queues_[std::size_t(s.index)].get();
}

void* CudaBackend::activation(View x) const {
    CAKE_CHECK(x.dtype() == activations_, "tensor {} holds {}, activations are {}", x.shape().str(),
               cake::name(x.dtype()), cake::name(activations_));
    return x.data();
}

std::unique_ptr<Backend> make_cuda_backend(int device, DType activations, int ranks) {
    const CudaDevices devices = cuda_devices();
    if (devices.count == 0)
        throw usage_error(
            "the CUDA backend cannot run: {}. Leave `--backend cuda` out to compute "
            "on the CPU",
            devices.why_none);
    if (device < 0 || device >= devices.count)
        throw usage_error("GPU {} of {}: start at most one rank per GPU of a host", device,
                          devices.count);
    check_capability(device, gpu::device_properties(device));
    return std::make_unique<CudaBackend>(device, activations, ranks);
}

void check_capability(int device, const gpu::DeviceProperties& properties) {
    constexpr int least = 8;  // copies to shared memory in the background, products of BF16
    if (properties.major < least)
        throw usage_error(
            "GPU {}, {}, has compute capability {}.{}, and the kernels need {}.0 or more: name "
            "others in CUDA_VISIBLE_DEVICES, or compute on the CPU with --backend cpu",
            device, properties.name, properties.major, properties.minor, least);
}

std::unique_ptr<Backend> make_cuda_backend(int device, int ranks) {
    return make_cuda_backend(device, DType::BF16, ranks);
}

CudaDevices cuda_devices() {
    const gpu::DeviceCount devices = gpu::count_devices();
    return {devices.count, devices.reason};
}

namespace {

CudaBackend& as_cuda(Backend& dev) {
    auto* cuda = dynamic_cast<CudaBackend*>(&dev);
    CAKE_CHECK(cuda, "the {} backend is not CUDA's", dev.name());
    return *cuda;
}

}  // namespace

CUstream_st* cuda_queue(Backend& dev, Stream s) { return as_cuda(dev).queue(s); }

std::shared_ptr<void> cuda_while_waiting(Backend& dev, std::function<void()> look) {
    return as_cuda(dev).while_waiting(std::move(look));
}

namespace gpu {

void refuse_type(DType dtype, std::source_location at) {
    throw Error(fmt::format("no kernel for {} ({}:{})", name(dtype), at.file_name(), at.line()));
}

}  // namespace gpu

}  // namespace cake
