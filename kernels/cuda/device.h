// All that the CUDA backend's host code asks of a device: memory, queues, events, graphs, matrix products. Plain C++.
//
// Two implementations, and a program is linked with one: kernels/cuda/device.cpp and gemm.cpp over cudart and cuBLASLt;
// tests/support/simt/device.cpp on the host, beside the machine that runs the kernels there. Calls that fail throw Error
// with the expression, file and line. Queues work in the background; functions that take none act at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/dtype.h"
#include "kernels/cuda/launch.h"

struct CUevent_st;
struct CUgraphExec_st;

namespace cake::gpu {

// ---- devices --------------------------------------------------------------------------------------------------------
struct DeviceCount {
    int count = 0;
    std::string reason;  // why there is none, in one line
};
DeviceCount count_devices() noexcept;  // never throws: every error is "no GPU"

struct DeviceProperties {
    std::string name;          // "NVIDIA H100 80GB HBM3"
    std::string bus_id;        // PCI, "0000:1b:00.0": the same GPU to all processes of a host
    int major = 0, minor = 0;  // compute capability
    int multiprocessors = 0;
    std::size_t memory_bytes = 0;
};
DeviceProperties device_properties(int device);

struct Versions {
    int driver = 0, runtime = 0;   // 13000 is 13.0; driver 0: none
    std::size_t gemm_library = 0;  // cuBLASLt's, 130100 is 13.1; 0: none
    std::string attention;         // what computes a prompt's attention, for people
};
Versions versions() noexcept;

// The calling thread's device, for all that follows.
void use_device(int device);

struct DeviceMemory {
    std::size_t free_bytes = 0, total_bytes = 0;
};
DeviceMemory device_memory();

// ---- memory ---------------------------------------------------------------------------------------------------------
// Device memory, aligned to 256 bytes, or null where there is not enough. 0 bytes: null.
void* allocate(std::size_t bytes);
void free(void* data) noexcept;
// Host memory that the device copies from and to in the background; null as above.
void* allocate_pinned(std::size_t bytes);
void free_pinned(void* data) noexcept;

// Host memory that is not pinned: a copy to or from it may hold the calling thread until the queue gets there.
bool is_pageable(const void* data);

// Between any two places. Of host memory that is not pinned CUDA promises neither that it is read or written before the call
// returns, nor that the call returns before.
void copy(Queue queue, void* to, const void* from, std::size_t bytes);
void set_bytes(Queue queue, void* to, int value, std::size_t bytes);

// ---- order ----------------------------------------------------------------------------------------------------------
struct DestroyQueue {
    void operator()(CUstream_st* queue) const noexcept;
};
using OwnedQueue = std::unique_ptr<CUstream_st, DestroyQueue>;
OwnedQueue make_queue();
void synchronize(Queue queue);
bool is_idle(Queue queue);  // all that was put in is done

struct DestroyEvent {
    void operator()(CUevent_st* event) const noexcept;
};
using OwnedEvent = std::unique_ptr<CUevent_st, DestroyEvent>;
OwnedEvent make_event();
void record(const OwnedEvent& event, Queue queue);
// What is put into the queue from now on waits for the event's last record.
void wait(Queue queue, const OwnedEvent& event);
bool has_happened(const OwnedEvent& event);  // its last record
// Between two records that have happened, on the device's clock.
double seconds_between(const OwnedEvent& begin, const OwnedEvent& end);

// ---- graphs ---------------------------------------------------------------------------------------------------------
struct DestroyGraph {
    void operator()(CUgraphExec_st* graph) const noexcept;
};
using OwnedGraph = std::unique_ptr<CUgraphExec_st, DestroyGraph>;
// What this thread puts into the queue until end_capture becomes a graph, and does not run. Pointers and numbers are those of the
// capture. No memory is allocated meanwhile.
void begin_capture(Queue queue);
OwnedGraph end_capture(Queue queue);
void replay(Queue queue, const OwnedGraph& graph);

// ---- matrix products ------------------------------------------------------------------------------------------------
// out [m, n] = x [m, k] weight [n, k]^T + bias [n], all row-major, sums in F32.
struct GemmTask {
    const void* x = nullptr;
    const void* weight = nullptr;
    const void* bias = nullptr;  // null: none
    void* out = nullptr;
    std::int64_t m = 0, n = 0, k = 0;
    DType in = DType::F32;            // of x and weight: F32 or BF16
    DType out_and_bias = DType::F32;  // that of `in`, or F32
};

// Work space of a product: what NVIDIA advises for Hopper.
inline constexpr std::size_t gemm_work_bytes = 32 << 20;

// Plans by shape. One thread uses it at a time.
class Gemm {
public:
    Gemm();
    ~Gemm();
    Gemm(const Gemm&) = delete;
    Gemm& operator=(const Gemm&) = delete;
    // `work`: gemm_work_bytes of device memory, until the product is done.
    void run(Queue queue, void* work, const GemmTask& task);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace cake::gpu
