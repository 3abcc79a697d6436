// What `cake bench` is to measure, once it is known what there is memory for.
#pragma once

#include <cstdint>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/trace.h"
#include "cli/session.h"

namespace cake {

// Prompts of any length: random tokens, or a text's, repeated where it is too short. The same on every rank.
class Prompts {
public:
    // Collective: rank 0 reads and encodes bench.text. Usage errors name the file.
    Prompts(World& world, const RunConfig& config, int vocabulary);
    std::vector<TokenId> operator()(int length) const;

private:
    std::uint64_t seed_;
    int vocabulary_;
    std::vector<TokenId> text_;
};

struct SweepPlan {
    PlanInput plan;                       // for the longest prompt that fits
    std::vector<int> prompts;             // that fit, ascending
    std::vector<nlohmann::json> misfits;  // rows of those that do not
};

// Drops prompts that memory, on any host, or the model's context has no room for. Collective.
SweepPlan plan_sweep(World& world, const RunConfig& config, const ModelConfig& model, Backend& dev);

// Usage errors where the trace does not fit. Collective.
PlanInput plan_trace(World& world, const RunConfig& config, const ModelConfig& model, Backend& dev,
                     const std::vector<TraceRequest>& trace);

// Rank 0's to all.
template <typename T>
void broadcast_vector(Communicator& comm, std::vector<T>& values) {
    std::int64_t n = std::int64_t(values.size());
    comm.broadcast_bytes(std::as_writable_bytes(std::span(&n, 1)), 0);
    values.resize(std::size_t(n));
    comm.broadcast_bytes(std::as_writable_bytes(std::span(values)), 0);
}

}  // namespace cake
