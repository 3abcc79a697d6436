// All memory that a rank computes in, beside weights and kept cache: sized once, from the plan.
#pragma once

#include <vector>

#include "config/model_config.h"
#include "kernels/backend.h"
#include "model/shard.h"

namespace cake {

// What sizes a workspace.
struct WorkspaceSize {
    int prompt = 1;        // longest prompt, tokens
    int chunk = 1;         // tokens of a prompt that pass through a block at a time
    int batch = 1;         // sequences that decode together
    int window = 0;        // largest observation window, 0: no window observes
    bool columns = false;  // some policy observes all queries: sums of columns are held
    bool selects = false;  // some policy evicts: scores and choices are held
    bool overlap = false;  // two chunks take turns, the sums of one beside what the other computes
    std::int64_t decode_rows =
        0;  // floats of one query head's probability rows, over all layers and sequences
    DType cache_dtype = DType::F32;
    DType activation_dtype = DType::F32;
    DType residual_dtype = DType::F32;  // of x, decode_x and the deltas
};

// How many of n rows pass at a time, at most `most`, in even parts of whole tiles of a matrix product (128 rows).
// `in_pairs`: in an even number of parts, as two take turns, where these have 1,024 rows or more, which keep a GPU busy.
std::int64_t rows_of_part(std::int64_t n, std::int64_t most, bool in_pairs = false);

// Most rows that pass through an MLP at a time: its gates are by far the widest of a block, and so many rows keep a GPU's
// matrix products at their best.
inline constexpr int mlp_rows = 2048;

// n = rows of a block: the larger of chunk and batch; m = those of its MLP, n or mlp_rows; S = prompt. The block and q_window
// are of the activation type, what is observed and logits F32, where no other type is said.
struct Workspace {
    WorkspaceSize size;
    // The block.
    Tensor x;  // [S, d_model] residual stream of a prompt
    Tensor
        decode_x;  // [batch, d_model] of a decode step, which may fall between two layers of a prompt
    Tensor normed;       // [n, d_model]
    Tensor qkv;          // [n, (n_q + 2 n_kv) d_head]
    Tensor q;            // [n, n_q, d_head]
    Tensor attn;         // [n, n_q d_head]
    Tensor delta;        // [n, d_model] what a half of the block adds to x
    Tensor other_delta;  // [chunk, d_model] the same of the other of two chunks that take turns
    Tensor gate_up;      // [m, 2 ff]
    Tensor act;          // [m, ff]
    // The one uncut layer.
    Tensor k, v;  // [n_kv, S, d_head] cache dtype
    // Observation.
    Tensor q_window;      // [window, n_q, d_head]
    Tensor mean;          // [n_q, S]
    Tensor variance;      // [n_q, S]
    Tensor head_scores;   // [n_q, S]
    Tensor column_sums;   // [n_q, S]
    Tensor running;       // [n_kv, S]
    Tensor group_scores;  // [query heads of the group, S], where ranks share a KV head
    Tensor scores;        // [n_kv, S]
    Tensor keep;          // I32 [n_kv, S]
    Tensor sums;          // F64 [2]
    // Ends.
    Tensor ids;          // I32 [n]: tokens that pass; then those that are sampled
    Tensor draws;        // F64 [batch, 5] what they are sampled by
    Tensor logits;       // [batch, vocab/R]
    Tensor all_logits;   // [R parts of [batch, vocab/R]]
    Tensor host_logits;  // the same in pinned memory
    // Decoding with eviction.
    Tensor probs;          // [n_q, decode_rows]
    Tensor decode_scores;  // [n_kv, decode_rows]: scores, or means

    Workspace(Backend& dev, const ModelConfig& model, const Shard& shard,
              const WorkspaceSize& size);
};

// Bytes of device memory by part, as reports and `plan` name them. Made by the same table that allocates.
struct WorkspaceBytes {
    std::size_t residual = 0;
    std::size_t uncut_layer = 0;
    std::size_t logits = 0;
    std::size_t other = 0;
};
WorkspaceBytes workspace_bytes(const ModelConfig& model, const Shard& shard,
                               const WorkspaceSize& size);

}  // namespace cake
