// Queues of kernels, as launchers see them: plain C++, no header of CUDA.
#pragma once

#include <cstddef>
#include <source_location>

#include "base/dtype.h"

struct CUstream_st;

namespace cake::gpu {

// A stream of the CUDA runtime, or of the emulation on the host (tests/support/simt).
using Queue = CUstream_st*;

// A queue, and the line that puts a kernel into it: what the message of a failed launch names.
struct LaunchSite {
    LaunchSite(Queue in, std::source_location line = std::source_location::current())
        : queue(in), at(line) {}
    Queue queue;
    std::source_location at;
};

// Throws Error where the kernel just launched could not start. With CAKE_SYNC=1 in the environment it waits for the
// kernel too, so that the error of a kernel names its own launch.
void launched(const LaunchSite& site);

// A block gets 48 KiB of shared memory unasked, a kernel's own arrays included: a launch that sizes more than this asks for it.
inline constexpr std::size_t unasked_shared_bytes = 40 * 1024;

// For launchers: there is no kernel for this type.
[[noreturn]] void refuse_type(DType dtype,
                              std::source_location at = std::source_location::current());

}  // namespace cake::gpu
