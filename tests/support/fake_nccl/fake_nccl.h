// NCCL and what comm/nccl.cpp needs of CUDA, without a GPU: ranks are threads, device memory is the host's. Linked in
// place of both libraries. As in NCCL no call blocks: it is in progress until all ranks have made it, and until then
// another one is an error. With emulated GPUs collectives are in their streams instead (FakeNccl::put).
#pragma once

#include <functional>
#include <string>
#include <vector>

struct CUstream_st;

namespace cake {

struct FakeNccl {
    // What a test decides.
    int version = 22809;
    bool starts = true;          // ranks find each other
    bool network_fails = false;  // from now on
    bool has_symmetric_memory = true;
    int graphs = 0;  // captured ones, that a communicator waits for where it is aborted
    std::vector<std::string> gpus{"0000:01:00.0", "0000:02:00.0", "0000:03:00.0"};  // bus ids
    // Puts work into a stream; none: collectives are in no stream. Given, a collective's call ends with it in the stream, and
    // there it waits for the other ranks': for no longer than a minute, and not where one of them gives up. Two at once on
    // a GPU are an error, and so is a communicator in two streams.
    std::function<void(CUstream_st*, std::function<void()>)> put;
    // What it may look at.
    int unique_ids = 0;
    int communicators = 0, windows = 0, allocations = 0;  // that are there
    int aborted = 0;
    std::vector<std::string> calls;  // what has run: "AllReduce"
};

// As it is now.
FakeNccl fake_nccl();
// Changes it while no other thread looks.
void change_fake_nccl(const std::function<void(FakeNccl&)>& change);
// The calling thread's, an index of `gpus`.
void use_fake_gpu(int index);

}  // namespace cake
