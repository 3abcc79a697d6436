// Order of work on a device.
#pragma once

#include <chrono>
#include <memory>

namespace cake {

// A queue of work: what is put in runs in order. On the CPU everything has run when a call returns.
struct Stream {
    int index = 0;
};

// A point in a stream that others can wait for, and between two of which time passes. Copies are the same point.
struct Event {
    std::chrono::steady_clock::time_point at{};  // on the CPU
    std::shared_ptr<void> of_device{};           // on a GPU, which gets there later
};

}  // namespace cake
