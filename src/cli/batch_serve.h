// A replica's ranks at work on the jobs of a batch.
#pragma once

#include <vector>

#include "base/stop_signals.h"
#include "cli/job_server.h"
#include "cli/session.h"

namespace cake {

struct BatchRun {
    const RunConfig& config;
    const std::optional<Tokenizer>& tokenizer;  // of leaders
    const StopSignals& signals;
    bool layers = false;  // what each layer kept, in each result
};

// All ranks of all replicas until no job is left, or a signal stops them. `server` is rank 0's. Returns whether all jobs
// were served. Collective.
bool serve_jobs(World& world, Engine& engine, const BatchRun& run,
                std::optional<JobServer>& server);

}  // namespace cake
