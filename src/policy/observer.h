// Watches a layer's queries, those of the last tokens or all, and turns them into what a policy wants to know.
#pragma once

#include <optional>
#include <tuple>

#include "model/layer.h"
#include "policy/policy.h"

namespace cake {

// What one layer's attention was like, over all query heads of all ranks.
struct LayerPreference {
    double entropy = 0;     // H, nats
    double variance = 0;    // V
    double preference = 0;  // P = H^(1/tau1) * V^(1/tau2)
};

// What policies of one prefill want to be seen.
struct Watch {
    bool columns = false;  // some policy observes all queries
    bool share = true;  // policies that look through the same window share one pass over the keys
};

// One per layer. Buffers are the workspace's.
class Observer {
public:
    Observer(const Rank& rank, const ModelConfig& model, int n_tokens, Workspace& ws,
             const Watch& watch);

    // A chunk's queries [c, n_q, d_head], the first at position `first`, and the layer's keys so far: keeps the queries of
    // the window, which may straddle chunks, and adds up the columns of attention where a policy observes all.
    void see(View q, const LayerKv& kv, int first);

    // H and V of this rank's heads, summed over ranks (two doubles), and the preference. Nothing where the policy does
    // not observe, or the prompt has no more tokens than the window.
    std::optional<LayerPreference> preference(const Policy& policy, const LayerKv& kv);

    // Scores of the tokens before the window: F32 [n_kv, S - w]; [n_kv, 0] where the prompt stays whole.
    View scores(const Policy& policy, const LayerKv& kv);

    // Where the policy goes on to sum while decoding: of every token what all queries have attended to it, mean over
    // its KV head's group: F32 [n_kv, S]. Else empty.
    View running(const Policy& policy);

private:
    bool sees_something(const Policy& policy) const {
        return policy.observe == Observe::Window && n_tokens_ > policy.window;
    }
    void observe(const Policy& policy, const LayerKv& kv);
    void window_scores(const Policy& policy, const LayerKv& kv, View score);
    View summed_columns();
    void mean_over_group(View per_head, View score);
    void mean_over_all(View per_head, View score);
    View whole_group(View per_head);

    Rank rank_;
    int model_heads_;  // query heads of all ranks
    int n_tokens_;
    Workspace& ws_;
    Watch watch_;
    // Of which window and dtype of statistics, and, where policies do not share, for whom the workspace now holds the
    // moments.
    std::optional<std::tuple<int, DType, const Policy*>> observed_;
    bool summed_ = false;  // ws.running is this layer's
};

}  // namespace cake
