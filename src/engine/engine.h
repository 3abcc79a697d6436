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
    bool first_is_answer = false;  // the first token is none of these, and logprobs are of others
    double not_before_s = 0;       // when it arrives, after serve() began
};

// What one layer kept after prefill.
struct LayerResult {
    std::optional<LayerPreference> seen;
    int budget = 0;                                    // prefix tokens
    int kept = 0;                                      // tokens, window included
    std::vector<std::vector<std::int32_t>> positions;  // of this rank's KV heads, ascending
};

struct Timings {
    double queued_s = 0;  // from its arrival to the start of its prefill
    double prefill_s = 0;
    double ttft_s = 0;  // from the start of its prefill to its first token
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

// What an engine has done so far, for summaries and rooflines.
struct Work {
    std::int64_t prompt_tokens = 0, new_tokens = 0;
    std::int64_t decode_steps = 0, step_tokens = 0;  // tokens that went through steps
    std::int64_t full_tokens_peak = 0;  // prompts and answers that were held at one time, at most
    double prefill_flops = 0;           // of all ranks
    double decode_bytes = 0;  // of this rank: weights and caches, as often as steps read them
};

// Called on rank 0 with each token. Returns false to stop there.
using OnToken = std::function<bool(TokenId)>;

class Engine {
public:
    // Loads this rank's share; sizes memory by `plan`. `progress` is told layers read. `status` is told what the rank is
    // at, and may be null.
    Engine(Backend& dev, Communicator& comm, const Checkpoint& checkpoint, const PlanInput& plan,
           const std::function<void(int layers)>& progress = {}, RankStatus* status = nullptr);

    // One request alone (engine/scheduler.h serves many). Collective: rank 0's request counts, it samples and decides.
    Generation generate(const Request& request, const OnToken& on_token = {},
                        const PrefillOptions& options = {});

    const Model& model() const { return model_; }
    const PlanInput& plan() const { return plan_; }
    const PagePool& pool() const { return *pool_; }
    PagePool& pool() { return *pool_; }
    Workspace& workspace() { return workspace_; }
    // Collective at its first call, which connects the ranks that share a KV head.
    Rank rank(PhaseClock& clock);
    Communicator& comm() const { return comm_; }
    Backend& dev() { return dev_; }
    // Messages among the ranks that share a KV head; zeros where none do.
    Communicator::Traffic sharing_traffic() const;
    PhaseClock& prefill_clock() { return prefill_clock_; }
    PhaseClock& decode_clock() { return decode_clock_; }
    Work& work() { return work_; }
    double load_seconds() const { return load_s_; }

private:
    Backend& dev_;
    Communicator& comm_;
    PlanInput plan_;
    RankStatus* status_;
    Timer load_timer_;
    Model model_;
    Workspace workspace_;
    std::unique_ptr<PagePool> pool_;
    std::unique_ptr<Communicator> sharers_;
    PhaseClock prefill_clock_, decode_clock_;
    Work work_;
    double load_s_ = 0;
};

// Bytes that a decode step reads on this rank: all weights but the embedding's other rows, and the caches.
double step_bytes(const Engine& engine, const std::vector<const SequenceCache*>& caches);

}  // namespace cake
