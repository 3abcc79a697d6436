// kernels/cuda/device.h on the host: device memory is host memory that host code cannot touch (memory.h), a queue runs what
// is put into it at once, or late (queues.h), a captured graph is a list of closures.
#include "kernels/cuda/device.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>
#include <unistd.h>
#include <utility>
#include <vector>

#include "base/error.h"
#include "simt/memory.h"
#include "simt/queues.h"
#include "simt/simt.h"

struct CUstream_st {
    bool captures = false;
    bool late = false;
    int lost_wait = -1;  // so many waits from now; less than 0: none
    int busy = 0;        // times that it says so yet: a GPU takes a while
    std::vector<std::function<void()>> captured;
    std::deque<std::function<void()>> waiting;  // put in and not run yet: of a late queue
};
struct CUevent_st {
    struct Record {
        CUstream_st* queue;
        std::optional<std::chrono::steady_clock::time_point>
            at;  // empty: the queue is not there yet
    };
    std::shared_ptr<Record> last;
};
struct CUgraphExec_st {
    std::vector<std::function<void()>> steps;
};

namespace cake::gpu {
namespace {

// The host's, or what a test has set.
std::size_t device_bytes() {
    if (const char* mib = std::getenv("CAKE_SIMT_MEMORY_MIB"))
        return std::size_t(std::atoll(mib)) << 20;
    return std::size_t(sysconf(_SC_PHYS_PAGES)) * std::size_t(sysconf(_SC_PAGESIZE));
}

// What a queue does with device memory.
void run(const std::function<void()>& work) {
    const simt::DeviceAccess access;
    work();
}

// The first of what a queue was late with.
void run_next(CUstream_st& queue) {
    const auto work = std::move(queue.waiting.front());
    queue.waiting.pop_front();
    run(work);
}

void run_all(CUstream_st& queue) {
    while (!queue.waiting.empty())
        run_next(queue);
}

// Device memory and pinned memory that is allocated.
class KnownMemory {
public:
    void add(const void* data, std::size_t bytes) {
        const std::scoped_lock lock(mutex_);
        if (data)
            bytes_[static_cast<const std::byte*>(data)] = bytes;
    }
    // The bytes that were there.
    std::size_t remove(const void* data) {
        const std::scoped_lock lock(mutex_);
        const auto found = bytes_.find(static_cast<const std::byte*>(data));
        const std::size_t bytes = found == bytes_.end() ? 0 : found->second;
        if (bytes > 0)
            bytes_.erase(found);
        return bytes;
    }
    bool holds(const void* data) const {
        const auto* const p = static_cast<const std::byte*>(data);
        const std::scoped_lock lock(mutex_);
        const auto after = bytes_.upper_bound(p);
        return after != bytes_.begin() && p < std::prev(after)->first + std::prev(after)->second;
    }

private:
    mutable std::mutex mutex_;
    std::map<const std::byte*, std::size_t> bytes_;  // by where they begin
};

// Never destroyed: what is freed last may be a static.
KnownMemory& known_memory() {
    static KnownMemory& memory = *new KnownMemory;
    return memory;
}

std::atomic<std::size_t> device_bytes_taken = 0;

// Of this thread, whose captures CUDA ends with an error where it takes or frees memory meanwhile.
thread_local int captures_under_way = 0;
thread_local bool capture_is_broken = false;

void forbid_in_captures(const char* what) {
    CAKE_CHECK(captures_under_way == 0, "{} in a capture", what);
}

float element(const void* data, DType dtype, std::int64_t i) {
    return dtype == DType::BF16 ? to_float(static_cast<const bf16*>(data)[i])
                                : static_cast<const float*>(data)[i];
}

}  // namespace

// ---- what launches need (simt.h, launch.h) --------------------------------------------------------------------------
void put(const LaunchSite& site, std::function<void()> work) {
    if (!site.queue)
        return run(work);
    if (site.queue->captures)
        return site.queue->captured.push_back(std::move(work));
    site.queue->waiting.push_back(std::move(work));
    if (!site.queue->late)
        run_all(*site.queue);
    site.queue->busy = 3;
}

void launched(const LaunchSite&) {}

// ---- devices --------------------------------------------------------------------------------------------------------
DeviceCount count_devices() noexcept { return {1, {}}; }

DeviceProperties device_properties(int device) {
    CAKE_CHECK(device == 0, "device {} of 1", device);
    return {"emulated on the host", "0000:00:00.0", 9, 0, 1, device_bytes()};
}

Versions versions() noexcept { return {}; }

void use_device(int device) { CAKE_CHECK(device == 0, "device {} of 1", device); }

// What this process has not taken of it: other processes' emulated GPUs are others.
DeviceMemory device_memory() {
    const std::size_t total = device_bytes(), taken = device_bytes_taken;
    return {total - std::min(total, taken), total};
}

// ---- memory ---------------------------------------------------------------------------------------------------------
void* allocate(std::size_t bytes) {
    forbid_in_captures("device memory is taken");
    if (bytes > device_memory().free_bytes)
        return nullptr;
    void* data = simt::allocate_device(bytes);
    known_memory().add(data, bytes);
    device_bytes_taken += data ? bytes : 0;
    return data;
}
void free(void* data) noexcept {
    capture_is_broken |= data && captures_under_way > 0;
    device_bytes_taken -= known_memory().remove(data);
    simt::free_device(data);
}
void* allocate_pinned(std::size_t bytes) {
    forbid_in_captures("pinned memory is taken");
    if (bytes == 0)
        return nullptr;
    void* data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (data)
        std::memset(data, 0xff, bytes);
    known_memory().add(data, bytes);
    return data;
}
void free_pinned(void* data) noexcept {
    capture_is_broken |= data && captures_under_way > 0;
    known_memory().remove(data);
    std::free(data);
}
bool is_pageable(const void* data) {
    forbid_in_captures("memory is asked about");  // CUDA does not say that it may be
    return !known_memory().holds(data);
}

void copy(Queue queue, void* to, const void* from, std::size_t bytes) {
    CAKE_CHECK(
        !queue || !queue->captures || (known_memory().holds(to) && known_memory().holds(from)),
        "host memory that is not pinned is copied in a capture");
    put(queue, [=] {
        if (bytes > 0)
            std::memmove(to, from, bytes);
    });
}

void set_bytes(Queue queue, void* to, int value, std::size_t bytes) {
    put(queue, [=] {
        if (bytes > 0)
            std::memset(to, value, bytes);
    });
}

// ---- order ----------------------------------------------------------------------------------------------------------
void DestroyQueue::operator()(CUstream_st* queue) const noexcept {
    run_all(*queue);
    delete queue;
}
OwnedQueue make_queue() { return OwnedQueue(new CUstream_st); }
void synchronize(Queue queue) {
    CAKE_CHECK(!queue || !queue->captures, "a queue that is being captured cannot be waited for");
    if (!queue)
        return;
    run_all(*queue);
    queue->busy = 0;
}
bool is_idle(Queue queue) {
    if (!queue)
        return true;
    CAKE_CHECK(!queue->captures, "a queue that is being captured cannot be asked");
    if (queue->busy == 0) {
        run_all(*queue);
        return true;
    }
    --queue->busy;
    return false;
}

void DestroyEvent::operator()(CUevent_st* event) const noexcept { delete event; }
OwnedEvent make_event() { return OwnedEvent(new CUevent_st); }
void record(const OwnedEvent& event, Queue queue) {
    event->last = std::make_shared<CUevent_st::Record>(CUevent_st::Record{queue, {}});
    put(queue, [record = event->last] { record->at = std::chrono::steady_clock::now(); });
}
void wait(Queue queue, const OwnedEvent& event) {
    CAKE_CHECK(event->last, "a wait for an event that was not recorded");
    if (queue && queue->lost_wait-- == 0)
        return;
    put(queue, [record = event->last] {
        while (!record->at) {
            CAKE_CHECK(!record->queue->waiting.empty(), "a wait for what is in no queue");
            run_next(*record->queue);
        }
    });
}
bool has_happened(const OwnedEvent& event) { return event->last->at.has_value(); }
double seconds_between(const OwnedEvent& begin, const OwnedEvent& end) {
    return std::chrono::duration<double>(end->last->at.value() - begin->last->at.value()).count();
}

void run_late(Queue queue, bool late) {
    run_all(*queue);
    queue->late = late;
}

void lose_wait(Queue queue, int index) { queue->lost_wait = index; }

// ---- graphs ---------------------------------------------------------------------------------------------------------
void DestroyGraph::operator()(CUgraphExec_st* graph) const noexcept { delete graph; }
void begin_capture(Queue queue) {
    CAKE_CHECK(queue && !queue->captures, "capture of a queue that is captured already");
    queue->captures = true;
    if (captures_under_way++ == 0)
        capture_is_broken = false;
}
OwnedGraph end_capture(Queue queue) {
    CAKE_CHECK(queue && queue->captures, "end of a capture that did not begin");
    queue->captures = false;
    --captures_under_way;
    OwnedGraph graph(new CUgraphExec_st{std::exchange(queue->captured, {})});
    CAKE_CHECK(!capture_is_broken, "memory was freed in a capture");
    return graph;
}
void replay(Queue queue, const OwnedGraph& graph) {
    for (const auto& step : graph->steps)
        put(queue, step);
}

// ---- matrix products ------------------------------------------------------------------------------------------------
struct Gemm::State {};
Gemm::Gemm() = default;
Gemm::~Gemm() = default;

void Gemm::run(Queue queue, void*, const GemmTask& t) {
    put(queue, [t] {
        std::vector<float> weight(std::size_t(t.n * t.k)), row(std::size_t(t.k));
        for (std::int64_t i = 0; i < t.n * t.k; ++i)
            weight[std::size_t(i)] = element(t.weight, t.in, i);
        for (std::int64_t i = 0; i < t.m; ++i) {
            for (std::int64_t c = 0; c < t.k; ++c)
                row[std::size_t(c)] = element(t.x, t.in, i * t.k + c);
            for (std::int64_t j = 0; j < t.n; ++j) {
                // In 8 partial sums, which the compiler makes a vector.
                constexpr std::int64_t lanes = 8;
                float partial[lanes] = {};
                const float* w = weight.data() + j * t.k;
                std::int64_t c = 0;
                for (; c + lanes <= t.k; c += lanes)
                    for (std::int64_t lane = 0; lane < lanes; ++lane)
                        partial[lane] += row[std::size_t(c + lane)] * w[c + lane];
                double sum = 0;
                for (; c < t.k; ++c)
                    sum += double(row[std::size_t(c)]) * w[c];
                for (const float p : partial)
                    sum += p;
                if (t.bias)
                    sum += element(t.bias, t.out_and_bias, j);
                if (t.out_and_bias == DType::BF16)
                    static_cast<bf16*>(t.out)[i * t.n + j] = to_bf16(float(sum));
                else
                    static_cast<float*>(t.out)[i * t.n + j] = float(sum);
            }
        }
    });
}

}  // namespace cake::gpu
