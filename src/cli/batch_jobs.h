// From lines of jobs to requests.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "engine/engine.h"
#include "io/jobs.h"
#include "text/tokenizer.h"

namespace cake {

struct BatchJob {
    Request request;
    std::vector<std::string> stop;
    std::string error;      // why it cannot be done; empty: it can
    bool refused = false;   // for want of memory: no result, so that another start may do it
    std::int64_t line = 0;  // of the file; 0: of none
};

// The largest of a list of jobs: what memory is planned by.
struct BatchLimits {
    std::int32_t jobs = 0;                    // that can be done
    std::int32_t prompt = 0, new_tokens = 0;  // tokens
};

// All jobs of a file that have no result, in its order, those with errors included. Loads the model's tokenizer where
// there is a text to encode, or an answer to decode. Usage errors: files that cannot be read, an unknown chat template.
std::vector<BatchJob> read_jobs(const std::string& input, const RunConfig& config,
                                const ModelConfig& model, const ResultWriter& results,
                                std::optional<Tokenizer>& tokenizer);

// Refuses jobs whose prompts are longer than `longest`, for which there is memory.
void refuse_long(std::vector<BatchJob>& jobs, int longest);
// Refuses jobs that even an empty pool of pages has no room for.
void refuse_large(std::vector<BatchJob>& jobs, const PlanInput& plan);

BatchLimits limits_of(const std::vector<BatchJob>& jobs);

// As one rank sends it to another: what a job may set. The rest of the sampling is `common`.
std::string encode_job(const BatchJob& job);
BatchJob decode_job(const std::string& bytes, const Sampling& common);

}  // namespace cake
