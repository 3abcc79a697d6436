#include "simt/shared_memory.h"

#include <algorithm>
#include <new>
#include <sys/mman.h>

#include "kernels/cuda/launch.h"

#ifdef CAKE_SIMT_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace cake::simt {
namespace {

constexpr std::size_t kArenaBytes = 256 * 1024;
constexpr std::size_t kRedZone = 16;  // between two arrays, for AddressSanitizer

unsigned char* map_at(void* where, int flags) {
    void* data = mmap(where, kArenaBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (data == MAP_FAILED)
        throw std::bad_alloc();
    return static_cast<unsigned char*>(data);
}

}  // namespace

SharedMemory::SharedMemory() : arena_(map_at(nullptr, 0)), used_(kArenaBytes) {}

SharedMemory::~SharedMemory() {
#ifdef CAKE_SIMT_ASAN
    __asan_unpoison_memory_region(arena_, kArenaBytes);
#endif
    munmap(arena_, kArenaBytes);
}

void SharedMemory::start_block(std::size_t dynamic_bytes) {
    std::size_t bytes = std::min(kArenaBytes, std::max(used_, dynamic_bytes) + 2 * kRedZone);
#ifdef CAKE_SIMT_TSAN
    // Memory that no thread has touched: the last block's accesses are no races of this one's.
    map_at(arena_, MAP_FIXED);
#endif
#ifdef CAKE_SIMT_ASAN
    __asan_unpoison_memory_region(arena_, kArenaBytes);
#endif
    // Not memset, which the sanitizers watch.
    unsigned char* to = arena_;
    asm volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(0xff) : "memory");
#ifdef CAKE_SIMT_ASAN
    __asan_poison_memory_region(arena_, kArenaBytes);
    __asan_unpoison_memory_region(arena_, dynamic_bytes);
#endif
    used_ = bytes_ = dynamic_bytes;
    most_ = dynamic_bytes > gpu::unasked_shared_bytes ? kMostSharedBytes : kMostUnaskedBytes;
    n_arrays_ = 0;
}

void* SharedMemory::array(const void* tag, std::size_t bytes) {
    for (int i = 0; i < n_arrays_; ++i)
        if (arrays_[i].tag == tag)
            return arrays_[i].data;
    const std::size_t begin = (used_ + kRedZone + 15) / 16 * 16;
    bytes_ += (bytes + 15) / 16 * 16;
    if (n_arrays_ == kMostArrays || bytes_ > most_ || begin + bytes > kArenaBytes)
        return nullptr;
    used_ = begin + bytes;
#ifdef CAKE_SIMT_ASAN
    __asan_unpoison_memory_region(arena_ + begin, bytes);
#endif
    arrays_[n_arrays_++] = {tag, arena_ + begin};
    return arena_ + begin;
}

}  // namespace cake::simt
