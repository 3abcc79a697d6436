// A build without NCCL.
#include "comm/nccl.h"

namespace cake {

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator>, NcclDevice) {
    throw NotCompiled("NCCL");
}

Buffer nccl_symmetric_memory(Communicator&, std::span<const Stream>, std::size_t) { return {}; }

std::string nccl_version() { return {}; }
bool nccl_shares_gpus() { return false; }

}  // namespace cake
