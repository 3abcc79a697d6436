// What commands that run a model have in common: from a configuration to an engine that is ready, on every rank, with one
// clear message where that cannot be.
#pragma once

#include <memory>

#include "cli/cli.h"
#include "config/run_config.h"
#include "engine/engine.h"

namespace cake {

// Usage error where the configuration asks for what this program does not do: nothing is silently ignored.
void check_supported(const RunConfig& config, int ranks);

// The model's numbers, cut to the layers that the configuration asks for.
ModelConfig read_model(const RunConfig& config);

// The backend that the configuration names; auto: the CPU. "auto" threads are this rank's share of the processors that
// its host lets it use.
std::unique_ptr<Backend> make_backend(const RunConfig& config, const World& world);

// How tokens are chosen, as the configuration has it.
Sampling sampling_of(const RunConfig& config);

// Warns and lowers `new_tokens` where prompt and answer together exceed the model's context. Usage error where the
// prompt alone does.
int fit_context(const ModelConfig& model, int prompt, int new_tokens);

// Usage error with the plan where this host's ranks do not fit into its memory.
void check_memory(const PlanInput& plan, Backend& dev, const World& world);

// Loads the model on all ranks, with a progress bar on rank 0.
std::unique_ptr<Engine> load_engine(CommandContext& context, Backend& dev, const RunConfig& config,
                                    const PlanInput& plan, bool quiet);

}  // namespace cake
