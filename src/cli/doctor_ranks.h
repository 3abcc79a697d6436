// What `cake doctor` looks at in each rank: where it runs, on what, with how much room.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "comm/world.h"
#include "kernels/backend.h"

namespace cake {

// Of this rank; the keys are those of `ranks` in the report (docs/interface.md).
nlohmann::json rank_facts(const World& world, const Backend& dev);

// "0-3,8", as taskset and numactl take it.
std::string cpu_list(const std::vector<int>& cpus);

// What in the facts of all ranks makes runs slow or end early, and what to do about it; one line each.
std::vector<std::string> placement_warnings(const std::vector<nlohmann::json>& ranks);

}  // namespace cake
