// What a report says of one request (docs/interface.md).
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/engine.h"

namespace cake {

// An entry of "requests". Its "layers" are empty where generation.layers are. Collective where they are not: every rank
// passes its own generation; whole on rank 0, null elsewhere.
nlohmann::json request_json(Engine& engine, const Request& request, const Generation& generation,
                            const std::string& text);

// An entry of --dump-kept: {"id", "layers": [[[positions of KV head 0], [head 1], ...], ...]}. Collective likewise.
nlohmann::json kept_json(Engine& engine, const Request& request, const Generation& generation);

// Nearest rank; p of 1. `values` must not be empty.
double percentile(std::vector<double> values, double p);

// Every rank's, in rank order.
std::vector<nlohmann::json> gather_json(Communicator& comm, const nlohmann::json& mine);

}  // namespace cake
