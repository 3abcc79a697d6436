// Device memory of the machine on the host. It starts as NaN, and outside of a queue's work nobody can touch it: host code
// that reads or writes it ends the program, with a line that says so. CAKE_SIMT_GUARD=0 in the environment lets it, and
// so does a build with a sanitizer, which watches the heap better.
#pragma once

#include <cstddef>

namespace cake::simt {

// Aligned to 256 bytes; null where there is not enough.
void* allocate_device(std::size_t bytes);
void free_device(void* data) noexcept;

// While one lives, in any thread, device memory can be touched.
class DeviceAccess {
public:
    DeviceAccess();
    ~DeviceAccess();
    DeviceAccess(const DeviceAccess&) = delete;
    DeviceAccess& operator=(const DeviceAccess&) = delete;
};

// Whether host code that touches device memory ends the program.
bool guards_device_memory();

}  // namespace cake::simt
