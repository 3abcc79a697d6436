// Memory of the CPU backend: every place is host memory, and a copy has happened on return.
#include <cstring>

#include "kernels/cpu/cpu_backend.h"

namespace cake {

Buffer CpuBackend::allocate(std::size_t bytes, Place) { return Buffer::host(bytes); }

void CpuBackend::copy(Stream, View to, View from) {
    CAKE_CHECK(to.dtype() == from.dtype() && to.elements() == from.elements(),
               "copy of {} {} to {} {}", from.shape().str(), cake::name(from.dtype()),
               to.shape().str(), cake::name(to.dtype()));
    if (to.bytes() > 0)  // memmove: caches are compacted within one buffer
        std::memmove(to.data(), from.data(), to.bytes());
}

void CpuBackend::fill_zero(Stream, View x) {
    if (x.bytes() > 0)
        std::memset(x.data(), 0, x.bytes());
}

}  // namespace cake
