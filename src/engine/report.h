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

// `requests`: entries as request_json makes them. Collective over `all`, the ranks of all replicas; whole on rank 0 and
// null elsewhere. Times, traffic and roofline are those of rank 0.
nlohmann::json make_report(Engine& engine, Communicator& all, const ReportContext& context,
                           nlohmann::json requests);

// Seconds by phase, "linear_s", ..., "total_s".
nlohmann::json to_json(const PhaseTimes& times);

// The Slurm job that this process belongs to: "job_id", "restart_count", "array_task_id", as docs/interface.md has them;
// null where there is none.
nlohmann::json slurm_json();

// For people: a row per layer of the first request with its budget as a bar, bytes kept against the full cache, tokens
// per second.
std::string budget_table(const nlohmann::json& report);

}  // namespace cake
