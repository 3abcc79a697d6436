// Which part of a model a rank owns: pure functions of the model's numbers, the number of ranks and the rank.
#pragma once

#include "config/model_config.h"
#include "io/checkpoint.h"

namespace cake {

// Half-open ranges. Query heads of different ranks are disjoint and cover the model; so do ff columns and vocabulary
// rows. KV heads are dealt in contiguous runs whose sizes differ by at most one. Where there are more ranks than KV
// heads, each KV head is held by a run of ranks, its sharers, and its query heads are dealt among them.
struct Shard {
    int rank = 0;
    int ranks = 1;
    Range kv_heads;
    Range q_heads;
    Range ff;     // MLP columns
    Range vocab;  // rows of embedding and head

    int sharers = 1;  // ranks that hold this rank's KV head
    int sharer = 0;   // this rank's place among them

    bool shares_kv() const { return sharers > 1; }
    // The lowest sharer owns the head: it selects for all, and speaks for it in reports.
    bool owns_kv() const { return sharer == 0; }
    int n_kv() const { return int(kv_heads.size()); }
    int n_q() const { return int(q_heads.size()); }
    int group() const { return n_q() / n_kv(); }
};

// Largest number of ranks that can share this model: one query head each.
int max_ranks(const ModelConfig& model);

// MLP columns are dealt evenly, also where heads are not: the ranks meet after either half of a block, so columns that
// make up for fewer heads would only make the other half uneven too.
// Usage error where there are more ranks than max_ranks().
Shard shard_of(const ModelConfig& model, int ranks, int rank);

// The `part`-th of `parts` contiguous runs of 0..n whose sizes differ by at most one, larger ones first.
Range even_run(std::int64_t n, int parts, int part);

}  // namespace cake
