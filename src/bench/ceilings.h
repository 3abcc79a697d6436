// What this machine reaches, as a file for `cake plan --machine`.
#pragma once

#include <string>

#include "comm/communicator.h"
#include "config/model_config.h"
#include "kernels/backend.h"

namespace cake {

// YAML with every key of config/machine.h, measured on all ranks at the same time; collective, whole on rank 0. Attention is
// that of the model's heads; links are measured by all-reduces of 16 B and 4 MB where there are several ranks, else the
// figures are assumptions, and said to be. `memory_bytes`: what is free, for each rank.
std::string machine_yaml(Backend& dev, Communicator& comm, const ModelConfig& model,
                         const std::string& host, int ranks_here);

}  // namespace cake
