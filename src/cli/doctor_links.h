// What `cake doctor` measures between ranks: how long sums over all of them take.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "comm/communicator.h"
#include "config/machine.h"
#include "kernels/backend.h"

namespace cake {

struct SumTime {
    std::size_t bytes = 0;             // of one rank's payload
    double seconds = 0;                // of one sum, the slowest rank's mean; 0: not measured
    std::string why_not;               // in one line
    double bus_gb_s(int ranks) const;  // what each rank sends: bytes * 2 (R-1)/R / seconds / 1e9
};

// Of 16 B, 64 KiB, 4 MiB and 256 MiB in the memory of `dev`, less where it would take more than `room` bytes of each rank
// or seconds. Collective: the same on all ranks.
std::vector<SumTime> time_sums(Backend& dev, Communicator& comm, std::size_t room);

// Beside what the machine's links should give, where there is a machine.
nlohmann::json sums_json(const std::string& over, const std::vector<SumTime>& sums, int ranks,
                         const Machine* machine);

// What is wrong with sums (as sums_json has them), and what to do; one line each.
std::vector<std::string> link_warnings(const nlohmann::json& sums);

}  // namespace cake
