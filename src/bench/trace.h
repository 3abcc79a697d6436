// A trace of requests, played through the scheduler.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "config/run_config.h"
#include "engine/engine.h"

namespace cake {

struct TraceRequest {
    double arrival_s = 0;       // after the first
    int input = 0, output = 0;  // tokens
};

// Lines of {"timestamp" (ms), "input_length", "output_length"}, other keys passed over; times and lengths multiplied by
// the configuration's scales, lengths rounded and at least 1. Usage errors name file and line.
std::vector<TraceRequest> read_trace(const RunConfig::Bench& bench);

// Serves the trace with random prompts, each not before it arrives, without an end of sequence; request i samples with the
// seed sampling.seed + i. Returns a row of "kind":
// "requests": percentiles of time to first token and to the end, both from arrival, and between tokens; tokens a second.
// Whole on rank 0. Collective.
nlohmann::json play_trace(Engine& engine, const RunConfig& config,
                          const std::vector<TraceRequest>& trace, const Sampling& sampling = {});

}  // namespace cake
