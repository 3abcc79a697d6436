// A transformer block as a list of verbs, for a chunk of a prompt and for one token of each of a batch of sequences.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "model/model.h"
#include "model/rank.h"
#include "model/workspace.h"

namespace cake {

// Keys (after RoPE) and values of a whole prompt in one layer, this rank's KV heads.
struct LayerKv {
    View k, v;  // [n_kv, S, d_head], cache dtype
    int n_tokens() const { return int(k.dim(1)); }
};

// Called with each chunk's queries [c, n_q, d_head] (after RoPE), the layer's keys and values up to the chunk's end, and
// the position of the first query.
using OnQueries = std::function<void(View q, const LayerKv& kv, int first)>;
// Called after each chunk with the number of tokens that have passed.
using OnTokens = std::function<void(int done)>;

// Embeddings of the tokens, into the first rows of `to`: [ids, d_model], returned. The vocabulary's rows are spread over
// ranks, which sum.
View embed(const Rank& rank, const Model& model, std::span<const TokenId> ids, View to,
           Workspace& ws);

// Passes the whole prompt x [S, d_model] through layer l, chunk by chunk, in place. The result lies in the scratch of
// the workspace and is overwritten by the next layer.
LayerKv forward_layer(const Rank& rank, const Model& model, int l, View x, Workspace& ws,
                      const OnQueries& on_queries, const OnTokens& on_tokens = {});

// Passes one token of each sequence, x [batch, d_model], through layer l, in place; keys and values join the cache.
// Softmax rows are left in probs where it wants them. What the MLP adds to x stays in ws.delta until the next layer's norm, or,
// behind the last one, is added.
void decode_layer(const Rank& rank, const Model& model, int l, View x, const PagedBatch& kv,
                  const RaggedRows& probs, Workspace& ws);

// Logits of rows x [n, d_model], as ranks' parts into the workspace's pinned memory, by when the stream gets there.
void lm_head(const Rank& rank, const Model& model, View x, Workspace& ws);

// In place of all logits, each row's likeliest token: the lower one of equals, and a logit that is not a number is below all
// others (the host's sampler takes it as -infinity: a difference only where no logit is finite). The same by wait_for_best(),
// on all ranks. What crosses the ranks and reaches the host is a key of each row and rank (Backend::argmax), in the
// workspace's memory for logits.
void lm_head_best(const Rank& rank, const Model& model, View x, Workspace& ws);
std::vector<TokenId> wait_for_best(const Rank& rank, std::int64_t n, const Workspace& ws);

// In place of all logits on the host, a token of each row, drawn by rank 0's draws (pinned, F64 [n, 5]: kernels/draw.h). Logits
// are gathered on the device, where rank 0 draws, so that no rounding can let ranks disagree; other ranks take no draws, and
// wait_for_sampled() gives them zeros.
void lm_head_sampled(const Rank& rank, const Model& model, View x, View draws, Workspace& ws);
std::vector<TokenId> wait_for_sampled(const Rank& rank, std::int64_t n, const Workspace& ws);

// Waits for the logits of n rows: host memory, F32 [n, vocab], equal on all ranks.
Tensor wait_for_logits(const Rank& rank, const Model& model, std::int64_t n, const Workspace& ws);

}  // namespace cake
