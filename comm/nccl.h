// Ranks as GPUs, over NCCL.
#pragma once

#include <functional>
#include <memory>

#include "comm/communicator.h"

namespace cake {

// Sums, gathers and broadcasts of Views go through NCCL, in the given stream of GPU `device`; host values go through
// `host`, which joins the same ranks and must outlive it. `cuda_stream` gives a Stream's cudaStream_t.
// Collective. Throws NotCompiled where the program was built without NCCL.
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, int device,
                                                     std::function<void*(Stream)> cuda_stream);

}  // namespace cake
