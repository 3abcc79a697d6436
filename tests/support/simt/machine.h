// A machine on the host that runs a CUDA kernel: blocks one after another, each CUDA thread a fiber that runs until it
// has to wait for others. Each thread of the operating system has its own machine (ranks are threads in tests).
//
// What a kernel does wrong is an Error that names the kernel's line: a barrier that not all threads reach, lanes that meet in
// different warp operations, a lane outside its own mask, a wait that nothing ends. Shared memory is NaN at the start of
// each block. Under ThreadSanitizer each CUDA thread is a thread to it: a missing __syncthreads is a race, with both
// lines. Under AddressSanitizer shared memory ends where its arrays end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>

#include "simt/types.h"

namespace cake::simt {

// What the running CUDA thread sees of itself.
struct Here {
    uint3 thread, block;
    dim3 block_size, grid_size;
    int lane;  // of its warp, 0 .. 31
};
extern constinit thread_local Here here;

struct LaunchShape {
    dim3 grid, block;
    std::size_t dynamic_shared_bytes;
};

// Runs kernel(arguments) in every thread of the grid. Throws Error where the shape is none that a GPU takes, and where the
// kernel did something wrong; then nothing more of the grid runs.
void run(const LaunchShape& shape, void (*kernel)(void* arguments), void* arguments);

// Blocks and threads from the last to the first. Of this thread's machine. CAKE_SIMT_REVERSED=1 in the environment
// is the same from the start.
void run_backwards(bool backwards);

// ---- for the CUDA thread that runs ----------------------------------------------------------------------------------

// Ends the launch with an Error.
[[noreturn]] void fail(const std::string& message, const std::source_location& at);

// Waits for all threads of the block. Returns how many of them came with a `vote`.
int sync_block(bool vote, const std::source_location& at);

// Operations in which the lanes of a mask meet. Lanes that meet in different ones are an error.
enum class WarpOp : std::uint8_t {
    Sync,  // the only one that orders memory
    Shuffle,
    ShuffleXor,
    ShuffleUp,
    ShuffleDown,
    Ballot,
    MatrixMultiply,
    LoadMatrix
};

// What each lane of a warp gave. Valid until the lane's next but one warp operation of the same mask.
class LaneValues {
public:
    explicit LaneValues(const std::uint64_t* values) : values_(values) {}
    std::uint64_t operator[](int lane) const;

private:
    const std::uint64_t* values_;
};

// Meets the lanes of the mask; every lane gives a value and sees all. Lanes beyond the end of the block are left out.
LaneValues meet(WarpOp op, unsigned mask, std::uint64_t value, const std::source_location& at);
// Lanes of this thread's warp that the block has.
unsigned lanes_of_warp();

// The block's array of this tag, made by the first thread that asks.
void* shared_array(const void* tag, std::size_t bytes, const char* name);
void* dynamic_shared();

// Copies in the background happen as late as allowed: whoever reads before the wait reads what was there.
struct PendingCopy {
    void* to;
    const void* from;  // null: zeros
    int group;
};
void begin_copy(void* to, const void* from, const std::source_location& at);
void commit_copies();
// The next copy to be made so that at most `left` groups are pending; null: none.
const PendingCopy* next_due_copy(int left);

}  // namespace cake::simt
