// Which GPU a rank computes on. Slurm may show every task all GPUs of a host, or to each its own as device 0; and
// whoever sets CUDA_VISIBLE_DEVICES anything between: so ranks of a host tell each other what they see.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace cake {

// What a process sees of its host's GPUs.
struct VisibleGpus {
    std::vector<std::string>
        bus_ids;  // of its devices, in their order; the same GPU to all processes of the host
    std::string why_none;  // where there are none, in one line
};

// What the ranks see.
struct GpuSurvey {
    std::vector<VisibleGpus> local;  // by rank of this host
    bool somewhere = false;          // some rank, of all hosts, sees one
    bool everywhere = false;         // every rank does
};

// Collective over `all`, and over `local`, the ranks of this host.
GpuSurvey survey_gpus(Communicator& all, Communicator& local, const VisibleGpus& mine);

// For each rank of a host, by what it sees, the device that the fewest others have, ranks that see few first; -1 where it
// sees none. Usage error where two ranks would have the same GPU, unless they may share.
std::vector<int> deal_gpus(std::span<const VisibleGpus> ranks, bool share);

// The device of a rank of this host; nothing: it computes on the CPU. `backend`: cpu; cuda, a usage error where the rank
// sees no GPU; auto, cuda where every rank sees one.
std::optional<int> choose_gpu(const std::string& backend, bool share, const GpuSurvey& survey,
                              int local_rank);

// Ranks of this host, this one among them, that compute on the GPU that it was given.
int ranks_on_gpu(bool share, const GpuSurvey& survey, int local_rank);

}  // namespace cake
