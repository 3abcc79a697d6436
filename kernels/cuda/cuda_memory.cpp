// Memory and order of the CUDA backend.
#include "kernels/cuda/cuda_backend.h"

namespace cake {

namespace {

Buffer owned(void* data, std::size_t bytes, Place place) {
    return Buffer(data, bytes, place, [](void* p, std::size_t, Place where) noexcept {
        where == Place::Device ? gpu::free(p) : gpu::free_pinned(p);
    });
}

[[noreturn]] void refuse(std::size_t bytes, Place place) {
    throw Error(fmt::format("no {} bytes of {} memory, {} are free", bytes,
                            place == Place::Device ? "device" : "pinned host",
                            gpu::device_memory().free_bytes));
}

}  // namespace

Buffer CudaBackend::allocate(std::size_t bytes, Place place) {
    if (place == Place::Host)
        return Buffer::host(bytes);
    void* data = place == Place::Device ? gpu::allocate(bytes) : gpu::allocate_pinned(bytes);
    if (!data && bytes > 0)
        refuse(bytes, place);
    return owned(data, bytes, place);
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
    Buffer& held = scratch_[std::size_t(s.index)];
    if (held.bytes() < bytes) {
        synchronize(s);  // what is given back may still be in use
        held = Buffer();
        if (void* const data = gpu::allocate(bytes))
            held = owned(data, bytes, Place::Device);
    }
    return held.data();
}

void CudaBackend::copy(Stream s, View to, View from) {
    CAKE_CHECK(to.dtype() == from.dtype() && to.elements() == from.elements(),
               "copy of {} {} to {} {}", from.shape().str(), cake::name(from.dtype()),
               to.shape().str(), cake::name(to.dtype()));
    if (to.bytes() == 0)
        return;
    // Such a copy waits for the stream inside of the driver, where nobody looks.
    if (!looks_.empty() && (gpu::is_pageable(to.data()) || gpu::is_pageable(from.data())))
        synchronize(s);
    gpu::copy(queue(s), to.data(), from.data(), to.bytes());
}

void CudaBackend::fill_zero(Stream s, View x) { gpu::set_bytes(queue(s), x.data(), 0, x.bytes()); }

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

}  // namespace cake
