// A communicator for memory that the host cannot read, over one that reads host memory: what is sent passes through
// pinned memory. For ranks that share a GPU, and for builds without NCCL.
#pragma once

#include <functional>
#include <memory>

#include "comm/communicator.h"

namespace cake {

// How the memory is reached.
struct DeviceCopies {
    // Host memory that copies reach fast.
    std::function<Buffer(std::size_t bytes)> pinned;
    // Between any two places, ordered in the stream. Same type and number of elements.
    std::function<void(Stream s, View to, View from)> copy;
    // Returns when all that was put into the stream is done.
    std::function<void(Stream s)> synchronize;
};

// A rank of `inner`, with its name, traffic and order of sums. Calls that take a Stream wait for it and are over when
// they return, so they cannot be captured in a graph. The pinned memory grows to the longest message.
std::unique_ptr<Communicator> make_staged_communicator(std::unique_ptr<Communicator> inner,
                                                       DeviceCopies device);

}  // namespace cake
