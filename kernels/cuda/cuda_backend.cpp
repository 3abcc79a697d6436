#include "kernels/cuda/cuda_backend.h"

#include <cstring>

namespace cake {

namespace {

// Selected before any member is made: queues and events belong to the current device.
int used(int device) {
    gpu::use_device(device);
    return device;
}

}  // namespace

CudaBackend::CudaBackend(int device, DType activations)
    : device_(used(device)), activations_(activations) {
    CAKE_CHECK(activations == DType::F32 || activations == DType::BF16, "activations of {}",
               cake::name(activations));
}

CudaBackend::~CudaBackend() = default;

DeviceInfo CudaBackend::info() const {
    const gpu::DeviceMemory memory = gpu::device_memory();
    return {.name = gpu::device_properties(device_).name,
            .memory_bytes = memory.total_bytes,
            .free_bytes = memory.free_bytes};
}

// A copy within the device reads and writes each byte; a product of activations' type. The best of a few runs.
Ceilings CudaBackend::ceilings() {
    constexpr std::int64_t copied = std::int64_t(64) << 20, side = 2048, runs = 5;
    const gpu::Queue q = queue({});
    const auto best = [&](const auto& work) {
        double seconds = 0;
        for (int i = 0; i <= runs; ++i) {
            const gpu::OwnedEvent begin = gpu::make_event(), end = gpu::make_event();
            gpu::record(begin, q);
            work();
            gpu::record(end, q);
            gpu::synchronize(q);
            const double taken = gpu::seconds_between(begin, end);
            if (i > 0 && (seconds == 0 || taken < seconds))  // the first one warms up
                seconds = taken;
        }
        return seconds;
    };
    Ceilings out;
    const Tensor from = tensor(DType::U8, {copied}), to = tensor(DType::U8, {copied});
    out.read_gb_s = 2e-9 * double(copied) / best([&] { copy({}, to, from); });
    const Tensor x = tensor(activations_, {side, side}), w = tensor(activations_, {side, side}),
                 product = tensor(activations_, {side, side});
    fill_zero({}, x);
    fill_zero({}, w);
    out.gemm_tflop_s = 2e-12 * double(side * side * side) / best([&] {
                           linear({}, x, {w, {}}, product);
                       });
    return out;
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

std::unique_ptr<Backend> make_cuda_backend(int device, DType activations) {
    const CudaDevices devices = cuda_devices();
    if (devices.count == 0)
        throw usage_error(
            "the CUDA backend cannot run: {}. Leave `--backend cuda` out to compute "
            "on the CPU",
            devices.why_none);
    if (device < 0 || device >= devices.count)
        throw usage_error("GPU {} of {}: start at most one rank per GPU of a host", device,
                          devices.count);
    return std::make_unique<CudaBackend>(device, activations);
}

std::unique_ptr<Backend> make_cuda_backend(int device) {
    return make_cuda_backend(device, DType::BF16);
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
    const char* file = std::strrchr(at.file_name(), '/');
    throw Error(fmt::format("no kernel for {} ({}:{})", name(dtype),
                            file ? file + 1 : at.file_name(), at.line()));
}

}  // namespace gpu

}  // namespace cake
