// Memory and order of the CUDA backend.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/random.h"

namespace cake {

namespace {

// Empty where there is not enough.
Buffer taken(const std::shared_ptr<CudaPool>& pool, std::size_t bytes) {
    void* const data = pool->take(bytes);
    if (!data)
        return {};
    return Buffer(data, bytes, Place::Device,
                  [pool](void* p, std::size_t n, Place) { pool->give_back(p, n); });
}

[[noreturn]] void refuse(std::size_t bytes, Place place) {
    throw Error(fmt::format("no {} bytes of {} memory, {} are free", bytes,
                            place == Place::Device ? "device" : "pinned host",
                            gpu::device_memory().free_bytes));
}

}  // namespace

void CudaBackend::reserve(std::size_t bytes, std::size_t work_bytes) {
    for (const gpu::OwnedQueue& queue : queues_)
        gpu::synchronize(queue.get());
    scratch_.clear();
    if (!pool_->reserve(bytes))
        throw usage_error(
            "{} has no {} bytes in one piece, {} are free: end what else runs there, or take a "
            "shorter prompt or a smaller policy.cache_size; `cake plan --backend cuda` shows what "
            "is needed",
            info().name, bytes, info().free_bytes);
    scratch({}, work_bytes);
}

Buffer CudaBackend::allocate(std::size_t bytes, Place place) {
    if (place == Place::Host)
        return Buffer::host(bytes);
    Buffer out = place == Place::Device
                     ? taken(pool_, bytes)
                     : Buffer(gpu::allocate_pinned(bytes), bytes, place,
                              [](void* p, std::size_t, Place) { gpu::free_pinned(p); });
    if (!out.data() && bytes > 0)
        refuse(bytes, place);
    return out;
}

void* CudaBackend::scratch(Stream s, std::size_t bytes) {
    void* const data = scratch_or_null(s, bytes);
    if (!data && bytes > 0)
        refuse(bytes, Place::Device);
    return data;
}

void* CudaBackend::scratch_or_null(Stream s, std::size_t bytes) {
    if (bytes == 0)
        return nullptr;
    if (scratch_.size() <= std::size_t(s.index))
        scratch_.resize(std::size_t(s.index) + 1);
    std::shared_ptr<Buffer>& held = scratch_[std::size_t(s.index)];
    if (!held || held->bytes() < bytes) {
        synchronize(s);  // what is given back may still be in use
        held.reset();
        held = std::make_shared<Buffer>(taken(pool_, bytes));
    }
    return held->data();
}

void CudaBackend::copy(Stream s, View to, View from) {
    CAKE_CHECK(to.dtype() == from.dtype() && to.elements() == from.elements(),
               "copy of {} {} to {} {}", from.shape().str(), cake::name(from.dtype()),
               to.shape().str(), cake::name(to.dtype()));
    if (to.bytes() == 0)
        return;
    // Such a copy waits for the stream inside of the driver, where nobody looks. None is captured.
    if (!looks_.empty() && !capturing_ &&
        (gpu::is_pageable(to.data()) || gpu::is_pageable(from.data())))
        synchronize(s);
    gpu::copy(queue(s), to.data(), from.data(), to.bytes());
}

void CudaBackend::fill_zero(Stream s, View x) { gpu::set_bytes(queue(s), x.data(), 0, x.bytes()); }

void CudaBackend::fill_random(Stream s, const RandomMatrix& matrix, std::int64_t row,
                              std::int64_t column, View out) {
    CAKE_CHECK(out.shape().rank() == 2 && column + out.dim(1) <= matrix.columns,
               "{} from column {} of {} random ones", out.shape().str(), column, matrix.columns);
    gpu::fill_random(queue(s), matrix, row, column, out.dtype(), out.data(), out.dim(0),
                     out.dim(1));
}

void CudaBackend::synchronize(Stream s) {
    std::erase_if(looks_, [](const auto& look) { return look.expired(); });
    while (!looks_.empty() && !gpu::is_idle(queue(s)))
        for (const auto& look : looks_)
            (*look.lock())();
    gpu::synchronize(queue(s));
}

std::shared_ptr<void> CudaBackend::while_waiting(std::function<void()> look) {
    auto handle = std::make_shared<std::function<void()>>(std::move(look));
    looks_.push_back(handle);
    return handle;
}

namespace {

const gpu::OwnedEvent& of_device(const Event& e) {
    CAKE_CHECK(e.of_device, "an event that was not recorded");
    return *static_cast<const gpu::OwnedEvent*>(e.of_device.get());
}

}  // namespace

Event CudaBackend::record(Stream s) {
    gpu::OwnedEvent event;
    if (idle_events_->empty()) {
        event = gpu::make_event();
    } else {
        event = std::move(idle_events_->back());
        idle_events_->pop_back();
    }
    gpu::record(event, queue(s));
    return {.of_device = std::shared_ptr<gpu::OwnedEvent>(
                new gpu::OwnedEvent(std::move(event)), [idle = idle_events_](gpu::OwnedEvent* e) {
                    idle->push_back(std::move(*e));
                    delete e;
                })};
}

void CudaBackend::wait(Stream s, Event e) { gpu::wait(queue(s), of_device(e)); }

std::optional<double> CudaBackend::seconds_between(const Event& begin, const Event& end) {
    if (!gpu::has_happened(of_device(end)))
        return {};
    return gpu::seconds_between(of_device(begin), of_device(end));
}

std::function<void()> CudaBackend::capture(Stream s, const std::function<void()>& work) {
    if (!captures_)
        return {};
    const gpu::Queue captured = queue(s);
    gpu::begin_capture(captured);
    capturing_ = true;
    try {
        work();
        capturing_ = false;
    } catch (...) {
        capturing_ = false;
        try {
            gpu::end_capture(captured);
        } catch (const Error&) {  // a consequence of the error that is under way
        }
        throw;
    }
    const auto graph = std::make_shared<gpu::OwnedGraph>(gpu::end_capture(captured));
    const std::shared_ptr<Buffer> scratch =
        scratch_.size() > std::size_t(s.index) ? scratch_[std::size_t(s.index)] : nullptr;
    return [captured, graph, scratch] { gpu::replay(captured, *graph); };
}

}  // namespace cake
