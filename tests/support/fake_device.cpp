#include "support/fake_device.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace cake {
namespace {

// No x86-64 processor accepts an address between 2^47 and 2^64 - 2^47.
constexpr std::uintptr_t kFirstAddress = std::uintptr_t(1) << 60;

class OnDevice final : public Communicator {
public:
    OnDevice(std::unique_ptr<Communicator> comm, std::function<Buffer(std::size_t)> allocate,
             DeviceCopies device)
        : comm_(std::move(comm)), allocate_(std::move(allocate)), device_(std::move(device)) {}

    int rank() const override { return comm_->rank(); }
    int size() const override { return comm_->size(); }
    std::string name() const override { return comm_->name(); }
    Traffic traffic() const override { return comm_->traffic(); }

    void all_reduce_sum(Stream s, View data) override {
        const Buffer memory = allocate_(data.bytes());
        const View there = upload(s, memory, data);
        comm_->all_reduce_sum(s, there);
        download(s, data, there);
    }

    void all_gather(Stream s, View part, std::span<const std::int64_t> elements,
                    View out) override {
        const Buffer memory = allocate_(out.bytes()), part_memory = allocate_(part.bytes());
        const View there = upload(s, memory, out);
        comm_->all_gather(
            s, is_inside(part, out) ? same_place(part, out, there) : upload(s, part_memory, part),
            elements, there);
        download(s, out, there);
    }

    void broadcast(Stream s, View data, int root) override {
        const Buffer memory = allocate_(data.bytes());
        const View there = upload(s, memory, data);
        comm_->broadcast(s, there, root);
        download(s, data, there);
    }

    void sum(std::span<double> values) override { comm_->sum(values); }
    void broadcast_bytes(std::span<std::byte> bytes, int root) override {
        comm_->broadcast_bytes(bytes, root);
    }
    std::vector<std::string> gather_strings(const std::string& mine) override {
        return comm_->gather_strings(mine);
    }
    void barrier() override { comm_->barrier(); }
    std::unique_ptr<Communicator> split(int color) override {
        return on_device(comm_->split(color), allocate_, device_);
    }

private:
    View upload(Stream s, const Buffer& to, View from) {
        if (from.bytes() == 0)
            return from;
        const View there(to.data(), from.dtype(), from.shape());
        device_.copy(s, there, from);
        return there;
    }

    void download(Stream s, View to, View from) {
        if (to.bytes() > 0)
            device_.copy(s, to, from);
        device_.synchronize(s);
    }

    static bool is_inside(View part, View whole) {
        return part.bytes() > 0 && part.data() >= whole.data() &&
               part.data() < static_cast<std::byte*>(whole.data()) + whole.bytes();
    }
    static View same_place(View part, View whole, View there) {
        const auto before =
            static_cast<std::byte*>(part.data()) - static_cast<std::byte*>(whole.data());
        return View(static_cast<std::byte*>(there.data()) + before, part.dtype(), part.shape());
    }

    std::unique_ptr<Communicator> comm_;
    std::function<Buffer(std::size_t)> allocate_;
    DeviceCopies device_;
};

}  // namespace

// Nothing is freed before the device itself: what a test of one communicator takes is little.
Buffer FakeDevice::allocate(std::size_t bytes) {
    const std::uintptr_t address = kFirstAddress + memory_.size();
    memory_.resize(memory_.size() + bytes, std::byte(0xcd));
    return Buffer(std::bit_cast<void*>(address), bytes, Place::Device, nullptr);
}

std::byte* FakeDevice::host_address(void* data) {
    const auto address = std::bit_cast<std::uintptr_t>(data);
    return address >= kFirstAddress ? memory_.data() + (address - kFirstAddress)
                                    : static_cast<std::byte*>(data);
}

void FakeDevice::copy(Stream s, View to, View from) {
    CAKE_CHECK(to.dtype() == from.dtype() && to.elements() == from.elements(),
               "a copy of {} {} to {} {}", from.shape().str(), name(from.dtype()), to.shape().str(),
               name(to.dtype()));
    queue_.push_back({s, to, from});
}

void FakeDevice::synchronize(Stream s) {
    const auto others = std::stable_partition(
        queue_.begin(), queue_.end(), [&](const Copy& c) { return c.stream.index == s.index; });
    for (auto c = queue_.begin(); c != others; ++c)
        std::memmove(host_address(c->to.data()), host_address(c->from.data()), c->to.bytes());
    queue_.erase(queue_.begin(), others);
}

DeviceCopies FakeDevice::copies() {
    return {.pinned = [](std::size_t bytes) { return Buffer::host(bytes); },
            .copy = [this](Stream s, View to, View from) { copy(s, to, from); },
            .synchronize = [this](Stream s) { synchronize(s); }};
}

std::unique_ptr<Communicator> on_device(std::unique_ptr<Communicator> comm,
                                        std::function<Buffer(std::size_t)> allocate,
                                        DeviceCopies device) {
    return std::make_unique<OnDevice>(std::move(comm), std::move(allocate), std::move(device));
}

}  // namespace cake
