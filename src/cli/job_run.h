// Jobs answered by all ranks: what `batch` and the evaluations have in common.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/stop_signals.h"
#include "cli/batch_jobs.h"
#include "cli/options.h"
#include "cli/profile.h"

namespace cake {

// Flags of every command that runs jobs.
struct JobRunFlags {
    std::optional<double> margin_s;  // --time-limit-margin
    Profile profile;

    void add_to(CLI::App& app);
};

struct JobRun {
    std::string command;  // that the report names
    const RunConfig& config;
    const StopSignals& signals;
    JobRunFlags& flags;
    std::string report = {};  // a file; empty: none is written
    bool quiet = false;
    bool layers = false;           // what each layer kept, in each result
    nlohmann::json decisive = {};  // beside the configuration: what decides an answer
    // On rank 0: opens the results, for answers that `digest` stands for, and returns the jobs that have none. Loads the
    // tokenizer where there is something to encode or to decode.
    std::function<std::vector<BatchJob>(const ModelConfig& model, const std::string& digest,
                                        std::optional<ResultWriter>& results,
                                        std::optional<Tokenizer>& tokenizer)>
        read;
};

// Plans memory for the jobs that can be done, loads the model unless there are none, answers, writes results and report.
// Collective. Usage errors: those of `read`, and what cannot be started. Done, SomeFailed, Stopped.
ExitCode run_jobs(CommandContext& context, const JobRun& run);

}  // namespace cake
