// Evaluations that ask the same of several policies: a batch job for each of them.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cli/job_run.h"
#include "policy/policy_list.h"

namespace cake {

// Answers by the ids of their jobs; those with an error are not among them.
using Answers = std::map<std::string, std::string>;

struct PolicyRuns {
    std::string command;
    const RunConfig& config;
    const ModelOptions& options;
    JobRunFlags& flags;
    const StopSignals& signals;
    std::vector<ListedPolicy> policies;
    // The rest is rank 0's.
    std::string folder = {};  // FOLDER/LABEL/results.jsonl keeps a policy's answers as they come
    nlohmann::json decisive = {};  // beside the configuration: what decides an answer
    // All jobs of a policy, whose folder is there; `config` has its cells.
    std::function<std::vector<BatchJob>(const ListedPolicy&, const RunConfig& config)> jobs = {};
    std::function<void(const ListedPolicy&, const Answers&)> answered = {};
};

// The study's policies. Usage errors: those of eval_policies; a report or a profile is asked for, and there are several.
std::vector<ListedPolicy> policies_to_run(const RunConfig& config, const ModelConfig& model,
                                          const ModelOptions& options, const JobRunFlags& flags);

// Whether this is a part of a study (eval.part), which has no table; rank 0 says who makes it.
bool is_part(const CommandContext& context, const RunConfig& config);

// One policy after the other; jobs that have an answer are passed over. Collective. Stopped at once where one was, and
// SomeFailed where in one of them some did.
ExitCode run_policies(CommandContext& context, const PolicyRuns& runs);

// The folder of a policy's answers in `folder`.
std::string folder_of(const std::string& folder, const ListedPolicy& policy);

// A file whole or not at all.
void write_whole(const std::string& path, const std::string& text);

}  // namespace cake
