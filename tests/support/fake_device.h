// A device whose memory the host cannot read, for tests of communicators.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "comm/staged.h"

namespace cake {

// Its addresses belong to nobody, so that a program that follows one crashes. Copies run when their stream is
// synchronised and not before, so that a missing synchronize() shows. Of one rank, used from one thread.
class FakeDevice {
public:
    Buffer allocate(std::size_t bytes);
    void copy(Stream s, View to, View from);
    void synchronize(Stream s);

    // For a communicator. Valid while this lives.
    DeviceCopies copies();

private:
    struct Copy {
        Stream stream;
        View to, from;
    };
    std::byte* host_address(void* data);

    std::vector<std::byte> memory_;
    std::vector<Copy> queue_;
};

// Speaks through `comm`, whose data are on a device, for the cases of communicator_cases.h, whose data are not: every
// message is put on the device and taken back.
std::unique_ptr<Communicator> on_device(std::unique_ptr<Communicator> comm,
                                        std::function<Buffer(std::size_t)> allocate,
                                        DeviceCopies device);

}  // namespace cake
