// What `cake doctor` looks at between hosts: folders that they share, and their clocks.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "comm/world.h"

namespace cake {

// Hosts by their lowest rank, each once, from the host of every rank.
std::vector<std::string> distinct_hosts(const std::vector<std::string>& host_of_rank);

// Whether a file that rank 0 writes in `folder` is seen by all hosts within two seconds: "folder", "missing_on" (hosts
// that do not), "error" (null, or why rank 0 could not write). Collective; the same on all ranks.
nlohmann::json try_folder(World& world, const std::string& folder);

// Seconds that each host's clock is ahead of rank 0's, to within the time of a barrier: {"host", "ahead_s"} each.
// Collective; the same on all ranks.
nlohmann::json compare_clocks(World& world);

}  // namespace cake
