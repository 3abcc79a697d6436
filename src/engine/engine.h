// A model on the ranks of a group, ready to answer prompts.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/plan.h"
#include "engine/prefill.h"
#include "engine/sampler.h"

namespace cake {

struct Request {
    std::string id;
    std::vector<TokenId> prompt;
    int max_new_tokens = 0;
    Sampling sampling;
    std::vector<TokenId> end_of_sequence;  // empty: generate through
};

// What one layer kept after prefill.
struct LayerResult {
    std::optional<LayerPreference> seen;
    int budget = 0;                                    // prefix tokens
    int kept = 0;                                      // tokens, window included
    std::vector<std::vector<std::int32_t>> positions;  // of this rank's KV heads, ascending
};

struct Timings {
    double prefill_s = 0;
    double ttft_s = 0;  // from the request to its first token
    double decode_s = 0;
    std::vector<double> inter_token_ms;
};

struct Generation {
    std::vector<TokenId> tokens;
    std::vector<TokenLogprobs> logprobs;  // of `tokens`, on rank 0, where the request asks for them
    std::string finish_reason;            // "stop" or "length"
    bool evicted = false;
    std::vector<LayerResult> layers;
    Timings timings;
};

// Called on rank 0 with each token. Returns false to stop there.
using OnToken = std::function<bool(TokenId)>;

class Engine {
public:
    // Loads this rank's share; sizes memory by `plan`. `progress` is told layers read.
    Engine(Backend& dev, Communicator& comm, const Checkpoint& checkpoint, const PlanInput& plan,
           const std::function<void(int layers)>& progress = {});

    // Prefills and decodes one request of the planned prompt length under plan.policies[0]. Collective: every rank passes the same request; rank 0
    // samples and decides, the others follow.
    Generation generate(const Request& request, const OnToken& on_token = {},
                        const PrefillOptions& options = {});

    const Model& model() const { return model_; }
    const PlanInput& plan() const { return plan_; }
    const PagePool& pool() const { return *pool_; }
    PagePool& pool() { return *pool_; }
    Workspace& workspace() { return workspace_; }
    // Collective at its first call, which connects the ranks that share a KV head.
    Rank rank(PhaseTimes& times);
    Communicator& comm() { return comm_; }
    Backend& dev() { return dev_; }
    // Messages among the ranks that share a KV head; zeros where none do.
    Communicator::Traffic sharing_traffic() const;
    PhaseTimes& prefill_times() { return prefill_times_; }
    const PhaseTimes& prefill_times() const { return prefill_times_; }
    const PhaseTimes& decode_times() const { return decode_times_; }
    double load_seconds() const { return load_s_; }

private:
    Backend& dev_;
    Communicator& comm_;
    PlanInput plan_;
    Timer load_timer_;
    Model model_;
    Workspace workspace_;
    std::unique_ptr<PagePool> pool_;
    std::unique_ptr<Communicator> sharers_;
    PhaseTimes prefill_times_, decode_times_;
    double load_s_ = 0;
};

}  // namespace cake
