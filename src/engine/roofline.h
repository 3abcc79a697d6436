// How long a run would take if every part ran at the rate that the machine reaches (config/machine.h): a bound to
// measure against, and a look at machines that are not at hand. The slowest rank counts, and nothing overlaps but what
// PrefillTime::hidden says: reading with computing no more than one kernel does. Not counted, so a run takes longer: starts of
// kernels, norms, RoPE, choosing and storing what is kept, sampling, and what sums that are beside computing take from it.
#pragma once

#include "config/machine.h"
#include "engine/plan.h"

namespace cake {

struct PrefillTime {  // seconds, of one prompt
    // 2 FLOPs a weight and token, or reading the weights once a chunk, whichever is longer (an MLP's are read once in mlp_rows:
    // so many rows are bound by FLOPs anyway).
    double linear = 0;
    double attention = 0;  // 4 FLOPs a query head, dimension, query and key up to the query
    double observe =
        0;  // window: two more passes of its queries over all keys; all queries: as attention again
    double all_reduce = 0;  // with all else that crosses ranks
    // Of all_reduce: beside computing, where the plan overlaps. All sums of the block but a layer's last one, and both of a
    // chunk that has none to take turns with; as much as linear layers and attention take, at most.
    double hidden = 0;
    double exposed() const { return all_reduce - hidden; }
    double total() const { return linear + attention + observe + exposed(); }
};

struct StepTime {          // seconds, of a decode step: one token of each sequence of the batch
    double linear = 0;     // reading the weights once, or their FLOPs
    double attention = 0;  // reading the kept keys and values, or their FLOPs
    double all_reduce = 0;
    double total() const { return linear + attention + all_reduce; }
};

struct Prediction {
    int ranks = 1, nodes = 1;
    std::size_t rank_bytes = 0;  // of the rank that takes most, by plan_rank()
    bool fits = false;           // every rank into its device
    PrefillTime prefill;
    StepTime step;
    double weight_bytes = 0, kv_bytes = 0;  // that the slowest rank reads in a step
    TrafficPlan traffic;
    std::int64_t gather_bytes = 0;  // once a step: of all ranks' likeliest tokens, or logits
    double prompt_tokens_per_s = 0;
    double tokens_per_s = 0;  // decoding, of the whole batch
};

// For the one policy of `plan`, made for what the machine computes with. Usage error: more ranks than query heads.
Prediction predict(const PlanInput& plan, const Machine& machine);

// Tokens per layer and KV head, on average over layers and over the new tokens, that a decode step reads.
double tokens_read(const Policy& policy, int prompt, int new_tokens);

// Seconds of `calls` sums over all ranks of `bytes` together (payload of one rank). Within a node a ring: each device
// sends 2 (R-1)/R of the payload. Over N nodes in three steps: reduce-scatter within the node, a ring between nodes
// over the part of each device, all-gather within the node. Ranks fill as few nodes as hold them, evenly.
double all_reduce_seconds(const Machine& machine, int ranks, std::int64_t calls, double bytes);

// Linear layers' multiply-adds of a rank: of a token through all layers, and of one row of logits.
double layer_macs(const ModelConfig& model, const Shard& shard);
double logits_macs(const ModelConfig& model, const Shard& shard);

nlohmann::json to_json(const Prediction& prediction);

}  // namespace cake
