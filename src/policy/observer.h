// Watches the queries of a layer's last tokens and turns them into what a policy wants to know.
#pragma once

#include <optional>

#include "model/layer.h"
#include "policy/policy.h"

namespace cake {

// What one layer's attention was like, over all query heads of all ranks.
struct LayerPreference {
    double entropy = 0;     // H, nats
    double variance = 0;    // V
    double preference = 0;  // P = H^(1/tau1) * V^(1/tau2)
};

// One per layer. Buffers are the workspace's.
class Observer {
public:
    Observer(const Rank& rank, int n_tokens, Workspace& ws)
        : rank_(rank), n_tokens_(n_tokens), ws_(ws) {}

    // A chunk's queries [c, n_q, d_head], the first at position `first`: keeps those of the window, which may straddle
    // chunks.
    void see(View q, int first);

    // H and V of this rank's heads, summed over ranks (two doubles), and the preference. Nothing where the policy does
    // not observe, or the prompt has no more tokens than the window.
    std::optional<LayerPreference> preference(const Policy& policy, const LayerKv& kv);

    // Scores of the tokens before the window: F32 [n_kv, S - w]; [n_kv, 0] where the prompt stays whole.
    View scores(const Policy& policy, const LayerKv& kv);

private:
    bool sees_something(const Policy& policy) const {
        return policy.observe == Observe::Window && n_tokens_ > policy.window;
    }
    void observe(const Policy& policy, const LayerKv& kv);
    View whole_group(View per_head);

    Rank rank_;
    int n_tokens_;
    Workspace& ws_;
    // Of which (window, dtype of statistics) the workspace now holds the moments.
    std::optional<std::pair<int, DType>> observed_;
};

}  // namespace cake
