// Continuous batching: sequences join the batch and leave it while others go on.
#pragma once

#include <functional>
#include <optional>

#include "engine/engine.h"

namespace cake {

// Where requests come from and where results go. Rank 0 of the group is asked and told, unless it says otherwise.
struct Feed {
    // The next request, in the order in which they are to be served; nothing: there are no more.
    std::function<std::optional<Request>()> next;
    // Each token of an answer as it comes; false ends the answer there.
    std::function<bool(const Request&, TokenId)> on_token = {};
    // A request is over. On every rank, where the request has id and prompt.
    std::function<void(const Request&, Generation)> done;
    // Asked at each step and after each layer of a prompt: true drops all that is not over. Set on all ranks, or on none.
    std::function<bool()> stopped = {};
};

struct ServeOptions {
    int interleave_ms =
        100;  // after a layer of a prompt the others take a step, if they stood still so long
    bool layers = true;  // Generation::layers is filled
    PrefillOptions prefill = {};
};

// Serves requests first come, first served, at most plan.batch at a time, under plan.policies[0]. A request is admitted
// when the pool has all pages that it can ever need, so none is interrupted; later ones wait behind it, so none starves.
// A prompt passes alone, layer by layer; the others take decode steps in between. Returns whether all were served: false,
// it was stopped. Collective: rank 0 decides, samples and tells the others. Throws Error where a request needs more
// than planned.
bool serve(Engine& engine, const Feed& feed, const ServeOptions& options = {});

}  // namespace cake
