// The heart: a prompt passes through the model layer by layer, and each layer keeps what its share allows.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "cache/sequence_cache.h"
#include "model/layer.h"
#include "policy/cascade.h"
#include "policy/observer.h"

namespace cake {

// One policy and the cache it fills. Activations do not depend on it, since attention uses the uncut layer: one prefill
// serves many of these.
struct Eviction {
    Eviction(const Policy& p, int n_layers, int n_tokens, SequenceCache& c)
        : policy(p), cascade(p, n_layers, n_tokens), cache(c) {}

    Policy policy;
    Cascade cascade;
    SequenceCache& cache;
    std::vector<std::optional<LayerPreference>> seen;  // by layer, where the policy observes
    PhaseTimes own;  // what this policy took beside the layers themselves
};

struct PrefillOptions {
    bool check =
        false;  // compare budgets over ranks at every layer, copies of shared KV heads at the end
    bool share_statistics = true;  // among policies with the same window; else each takes its own
    std::function<void(int layer, int tokens)> progress = {};  // tokens of it that have passed
    // Collective, after each layer, when nothing but the residual stream is in use: other sequences may take a decode
    // step here. False ends the prefill.
    std::function<bool(int layer)> after_layer = {};

    void report(int layer, int tokens) const {
        if (progress)
            progress(layer, tokens);
    }
    bool go_on(int layer) const { return !after_layer || after_layer(layer); }
};

// Passes `prompt` through every layer and leaves in each eviction's cache what its policy keeps, ready for decoding.
// Returns the logits of the last position, host F32 [1, vocab], equal on every rank; an empty tensor where it was ended.
Tensor prefill(const Rank& rank, const Model& model, std::span<const TokenId> prompt,
               std::span<Eviction> evictions, Workspace& ws, const PrefillOptions& options = {});

}  // namespace cake
