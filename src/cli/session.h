// What commands that run a model have in common: from a configuration to an engine that is ready, on every rank, with one
// clear message where that cannot be.
#pragma once

#include <memory>
#include <optional>

#include "cli/cli.h"
#include "cli/gpus.h"
#include "config/run_config.h"
#include "engine/engine.h"

namespace cake {

// Usage errors where the configuration asks for what the backend, or a command that shards one model over all ranks and
// sizes the cache by its plan, does not do: nothing is silently ignored.
void check_types(const RunConfig& config, const ComputeTypes& types);
void check_one_replica(const RunConfig& config, int ranks);

// Ranks of a replica, where `ranks` form replicas. Usage error where they do not come out even.
int replica_ranks(const RunConfig& config, int ranks);

// The model's numbers, cut to the layers that the configuration asks for.
ModelConfig read_model(const RunConfig& config);

// What the ranks see of GPUs; nothing where the configuration asks for the CPU. Collective.
GpuSurvey find_gpus(const RunConfig& config, World& world);

// The backend that the configuration names; auto: CUDA where every rank sees a GPU, else the CPU. "auto" threads are this
// rank's share of the processors that its host lets it use.
std::unique_ptr<Backend> make_backend(const RunConfig& config, const GpuSurvey& gpus,
                                      const World& world);

// Whether `ranks` that compute on `dev` speak over NCCL: on GPUs of their own, in a build that has it.
bool speaks_nccl(const RunConfig& config, const Backend& dev, int ranks);

// The ranks that give the same colour, as they exchange data of `dev`, which must outlive it: over NCCL between GPUs; through
// the host where ranks may share one, and where there is no NCCL. Collective.
std::unique_ptr<Communicator> make_group(const RunConfig& config, World& world, Backend& dev,
                                         int color);

// How tokens are chosen, as the configuration has it.

// `new_tokens`, or as many as fit into the model's context behind the prompt. Usage error where the prompt alone exceeds
// it.
int fit_context(const ModelConfig& model, int prompt, int new_tokens);

// Bytes that a plan needs of this rank's memory: of the host's ranks together, or of a GPU.
std::size_t bytes_needed(const PlanInput& plan, const Backend& dev, const World& world);

// Usage error with the plan where that is more than is free. Ranks of the world form groups of
// plan.ranks.
void check_memory(const PlanInput& plan, Backend& dev, const World& world);

// Whether there is memory for all but the pool of pages.
bool fits_without_pool(const PlanInput& plan, Backend& dev, const World& world);

// Sizes the pool of pages: as the configuration says; auto: for plan.batch of the largest sequences, or, where there is
// less memory, 90 % of what is left. Collective: all ranks come to the same bytes.
void fit_pool(PlanInput& plan, const RunConfig& config, Backend& dev, World& world);

// Loads the model on all ranks, sharded over the ranks of `group`, with a progress bar on rank 0. `random`: weights of
// this seed instead of the model's, of which a config.json is enough then.
std::unique_ptr<Engine> load_engine(CommandContext& context, Backend& dev, Communicator& group,
                                    const RunConfig& config, const PlanInput& plan, bool quiet,
                                    std::optional<std::uint64_t> random = {});

}  // namespace cake
