// What all ranks must have alike before they work together. Ranks that differ would wait for each other for ever, or
// give an answer that is no model's.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "comm/world.h"
#include "config/run_config.h"

namespace cake {

// "KEY is A on rank 0 (node1) and B on rank 3 (node2)": the first of the `facts` (a JSON object) that is not rank 0's on
// all ranks; empty where all are. Collective, and the same text on all ranks.
std::string difference(Communicator& comm, const std::string& host, const nlohmann::json& facts);

// Usage errors on all ranks alike, so that main() says them once; collective.
void check_same_program(World& world, const std::string& command);  // the build, and the command
void check_same_config(World& world, const RunConfig& config);
// The files' sizes and headers. A model that is missing everywhere is left to who reads it.
void check_same_model(World& world, const std::string& path);

}  // namespace cake
