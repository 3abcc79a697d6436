// The report of a run (docs/interface.md): every key is there, null where it was not measured.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "config/run_config.h"
#include "engine/engine.h"

namespace cake {

// Facts of the run that the engine does not know.
struct ReportContext {
    const RunConfig& config;
    std::string command;
    std::string host;  // of this rank
    int threads = 1;   // per rank
};

// Collective: every rank passes its own generation; the result is whole on rank 0 and null elsewhere.
nlohmann::json make_report(Engine& engine, const ReportContext& context, const Request& request,
                           const Generation& generation, const std::string& text);

// {"requests": [{"id", "layers": [[[positions of KV head 0], [head 1], ...], ...]}]}. Collective, whole on rank 0.
nlohmann::json make_kept_dump(Engine& engine, const Request& request, const Generation& generation);

// For people: a row per layer with its budget as a bar, bytes kept against the full cache, tokens per second.
std::string budget_table(const nlohmann::json& report);

}  // namespace cake
