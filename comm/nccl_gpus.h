// Which NCCL is in use, and the GPUs of ranks, which it wants to be different ones.
#pragma once

#include <string>
#include <vector>

namespace cake {

// Of the library in use, as NCCL_VERSION makes it; 0: it does not say.
int nccl_version_code();

// Host and bus of the calling thread's GPU: the same text for every process that uses it.
std::string place_of_gpu();

// Usage error where two ranks have the same GPU and NCCL would refuse, before it does so in words of its own. `gpus`: by rank.
void refuse_shared_gpus(const std::vector<std::string>& gpus);

}  // namespace cake
