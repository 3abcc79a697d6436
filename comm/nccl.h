// Ranks as GPUs, over NCCL.
//
// A sum's order is NCCL's, and of BF16 it may round at every step; all ranks get the same values. Calls that take a
// Stream are in the stream when they return, so they can be captured in a graph (capture relaxed or thread-local: NCCL
// launches from a thread of its own); such graphs end before the communicator. One rank alone does not start NCCL.
//
// Each stream has an ncclComm_t of its own, of some 600 MiB on the device, which the first collective in it starts: all
// ranks put theirs into the same streams, and the caller sees to it that no two run at once.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "comm/communicator.h"

struct CUstream_st;

namespace cake {

// The calling thread's GPU, as NCCL needs it.
struct NcclDevice {
    std::function<CUstream_st*(Stream)> cuda_stream;
    // Has `look` called whenever the host waits for the device, as long as what is returned lives: after an error of the
    // network the device would wait for ever. `look` gives up all that is under way, and throws. May be empty.
    std::function<std::shared_ptr<void>(std::function<void()> look)> while_waiting = {};
    // Of its start, and of each call until it is in the stream: the first ones connect the ranks.
    std::chrono::milliseconds start_within = std::chrono::minutes(2);
};

// Joins the ranks of `host`, through which host values go. Collective. Usage error, on all ranks alike, where two ranks
// have the same GPU and NCCL would refuse. Throws where the ranks have not found each other in time, and NotCompiled
// where the program was built without NCCL.
std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host,
                                                     NcclDevice device);

// Device memory that the GPUs of all ranks reach in each other, which makes small sums in it faster; for the sums of a
// block, put into `streams`, whose ncclComm_t it starts. Collective, the same size on all ranks. It goes with the
// communicator, whatever becomes of the Buffer. Empty where NCCL (before 2.27) or the machine has none, and of any other
// communicator: NCCL alone knows it, so it is no method of all.
Buffer nccl_symmetric_memory(Communicator& comm, std::span<const Stream> streams,
                             std::size_t bytes);

// The library in use, "2.28.9"; empty in a build without NCCL, and where it tells none.
std::string nccl_version();
// Whether it takes ranks that share a GPU: from 2.30 on, and where NCCL_MULTI_RANK_GPU_ENABLE is 1.
bool nccl_shares_gpus();

}  // namespace cake
