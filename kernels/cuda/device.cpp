// kernels/cuda/device.h over the CUDA runtime. Nothing is linked to the driver (libcuda): the program starts where there is
// none.
#include "kernels/cuda/device.h"

#include <cstdlib>
#include <cstring>

#include "kernels/cuda/cublas_lt.h"
#include "kernels/cuda/cudnn_attention.h"

namespace cake::gpu {
namespace {

std::string version(int v) { return fmt::format("{}.{}", v / 1000, v % 1000 / 10); }

bool waits_after_each_launch() {
    static const bool waits = [] {
        const char* value = std::getenv("CAKE_SYNC");
        return value && *value == '1';
    }();
    return waits;
}

bool is_captured(Queue queue) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    CUDA_CHECK(cudaStreamIsCapturing(queue, &status));
    return status != cudaStreamCaptureStatusNone;
}

// The memory, or null where there is not enough: the one error that callers put into their own words.
template <typename Allocate>
void* allocated(std::size_t bytes, Allocate allocate) {
    if (bytes == 0)
        return nullptr;
    void* data = nullptr;
    const cudaError_t status = allocate(&data, bytes);
    if (status == cudaErrorMemoryAllocation) {
        cudaGetLastError();  // else the next launch reports it
        return nullptr;
    }
    CUDA_CHECK(status);
    return data;
}

}  // namespace

void launched(const LaunchSite& site) {
    cudaError_t status = cudaGetLastError();
    if (status == cudaSuccess && waits_after_each_launch() && !is_captured(site.queue))
        status = cudaStreamSynchronize(site.queue);
    if (status == cudaSuccess)
        return;
    const char* file = std::strrchr(site.at.file_name(), '/');
    throw Error(fmt::format("{}: {} (kernel launched at {}:{})", cudaGetErrorName(status),
                            cudaGetErrorString(status), file ? file + 1 : site.at.file_name(),
                            site.at.line()));
}

// ---- devices --------------------------------------------------------------------------------------------------------
DeviceCount count_devices() noexcept {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaSuccess && count > 0)
        return {count, {}};
    cudaGetLastError();
    try {
        int of_driver = 0, of_runtime = 0;
        cudaDriverGetVersion(&of_driver);
        cudaRuntimeGetVersion(&of_runtime);
        const std::string driver =
            of_driver == 0 ? "no driver is loaded" : "the driver is of CUDA " + version(of_driver);
        const std::string error =
            status == cudaSuccess ? "it counts none" : std::string(cudaGetErrorString(status));
        return {0, fmt::format("no GPU is usable: {}; {}, this program of CUDA {}", error, driver,
                               version(of_runtime))};
    } catch (...) {
        return {0, "no GPU is usable"};
    }
}

DeviceProperties device_properties(int device) {
    cudaDeviceProp p;
    CUDA_CHECK(cudaGetDeviceProperties(&p, device));
    char bus_id[32] = {};
    CUDA_CHECK(cudaDeviceGetPCIBusId(bus_id, int(sizeof(bus_id)), device));
    return {p.name, bus_id, p.major, p.minor, p.multiProcessorCount, p.totalGlobalMem};
}

Versions versions() noexcept {
    Versions out;
    cudaDriverGetVersion(&out.driver);
    cudaRuntimeGetVersion(&out.runtime);
    try {
        out.attention = attention_in_use();
        out.gemm_library = cublas_lt().version();
    } catch (const Error&) {  // not installed
    }
    return out;
}

void use_device(int device) { CUDA_CHECK(cudaSetDevice(device)); }

DeviceMemory device_memory() {
    DeviceMemory out;
    CUDA_CHECK(cudaMemGetInfo(&out.free_bytes, &out.total_bytes));
    return out;
}

// ---- memory ---------------------------------------------------------------------------------------------------------
void* allocate(std::size_t bytes) {
    return allocated(bytes, [](void** data, std::size_t n) { return cudaMalloc(data, n); });
}
void free(void* data) noexcept { cudaFree(data); }
void* allocate_pinned(std::size_t bytes) {
    return allocated(bytes, [](void** data, std::size_t n) { return cudaMallocHost(data, n); });
}
void free_pinned(void* data) noexcept { cudaFreeHost(data); }

bool is_pageable(const void* data) {
    cudaPointerAttributes attributes;
    CUDA_CHECK(cudaPointerGetAttributes(&attributes, data));
    return attributes.type == cudaMemoryTypeUnregistered;
}

void copy(Queue queue, void* to, const void* from, std::size_t bytes) {
    if (bytes > 0)
        CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, queue));
}

void set_bytes(Queue queue, void* to, int value, std::size_t bytes) {
    if (bytes > 0)
        CUDA_CHECK(cudaMemsetAsync(to, value, bytes, queue));
}

// ---- order ----------------------------------------------------------------------------------------------------------
void DestroyQueue::operator()(CUstream_st* queue) const noexcept { cudaStreamDestroy(queue); }
OwnedQueue make_queue() {
    cudaStream_t queue = nullptr;
    CUDA_CHECK(cudaStreamCreateWithFlags(&queue, cudaStreamNonBlocking));
    return OwnedQueue(queue);
}
void synchronize(Queue queue) { CUDA_CHECK(cudaStreamSynchronize(queue)); }
bool is_idle(Queue queue) {
    const cudaError_t status = cudaStreamQuery(queue);
    if (status == cudaErrorNotReady) {
        cudaGetLastError();  // else the next launch reports it
        return false;
    }
    CUDA_CHECK(status);
    return true;
}

void DestroyEvent::operator()(CUevent_st* event) const noexcept { cudaEventDestroy(event); }
OwnedEvent make_event() {
    cudaEvent_t event = nullptr;
    CUDA_CHECK(cudaEventCreate(&event));
    return OwnedEvent(event);
}
void record(const OwnedEvent& event, Queue queue) {
    CUDA_CHECK(cudaEventRecord(event.get(), queue));
}
void wait(Queue queue, const OwnedEvent& event) {
    CUDA_CHECK(cudaStreamWaitEvent(queue, event.get(), 0));
}
bool has_happened(const OwnedEvent& event) {
    const cudaError_t status = cudaEventQuery(event.get());
    if (status == cudaErrorNotReady) {
        cudaGetLastError();  // else the next launch reports it
        return false;
    }
    CUDA_CHECK(status);
    return true;
}
double seconds_between(const OwnedEvent& begin, const OwnedEvent& end) {
    float milliseconds = 0;
    CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()));
    return double(milliseconds) / 1000;
}

// ---- graphs ---------------------------------------------------------------------------------------------------------
void DestroyGraph::operator()(CUgraphExec_st* graph) const noexcept { cudaGraphExecDestroy(graph); }
void begin_capture(Queue queue) {
    CUDA_CHECK(cudaStreamBeginCapture(queue, cudaStreamCaptureModeThreadLocal));
}
OwnedGraph end_capture(Queue queue) {
    cudaGraph_t graph = nullptr;
    CUDA_CHECK(cudaStreamEndCapture(queue, &graph));
    cudaGraphExec_t ready = nullptr;
    const cudaError_t status = cudaGraphInstantiate(&ready, graph, 0);
    cudaGraphDestroy(graph);
    CUDA_CHECK(status);
    return OwnedGraph(ready);
}
void replay(Queue queue, const OwnedGraph& graph) {
    CUDA_CHECK(cudaGraphLaunch(graph.get(), queue));
}

}  // namespace cake::gpu
