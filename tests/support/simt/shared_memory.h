// Shared memory of the block that runs: what is sized at launch first, then arrays as they are asked for.
#pragma once

#include <cstddef>

namespace cake::simt {

// What an H100 gives a block that asks for it.
inline constexpr std::size_t kMostSharedBytes = 227 * 1024;
// And one that does not: 48 KiB, less one that nvcc counts to each kernel's own arrays from sm_90 on.
inline constexpr std::size_t kMostUnaskedBytes = 47 * 1024;

class SharedMemory {
public:
    SharedMemory();
    ~SharedMemory();
    SharedMemory(const SharedMemory&) = delete;
    SharedMemory& operator=(const SharedMemory&) = delete;

    // 0xff everywhere: NaN in every float format, -1 as an integer. No arrays.
    void start_block(std::size_t dynamic_bytes);
    void* dynamic() const { return arena_; }
    // The array of this tag, made by who asks first; null where no room is left.
    void* array(const void* tag, std::size_t bytes);

private:
    struct Array {
        const void* tag;
        void* data;
    };
    static constexpr int kMostArrays = 64;

    unsigned char* arena_;
    std::size_t used_;                  // by the last block, at its start; then by this one
    std::size_t bytes_ = 0, most_ = 0;  // without what lies between arrays
    Array arrays_[kMostArrays] = {};
    int n_arrays_ = 0;
};

}  // namespace cake::simt
