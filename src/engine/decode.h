// Decoding: all sequences of a batch take one token together, each with its own length in every layer.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "cache/sequence_cache.h"
#include "engine/captured_steps.h"
#include "kernels/draw.h"
#include "model/layer.h"
#include "policy/policy.h"

namespace cake {

// Called where layer `layer` of a step has been put into the stream, with what its attention made of each sequence's token,
// before the output projection: [batch, n_q d_head] of this rank's query heads, activations, overwritten by the next layer.
using OnAttention = std::function<void(int layer, View attention)>;

// The sequences that decode together, and what kernels need to know of them, in device memory. One policy for all.
class DecodeBatch {
public:
    DecodeBatch(const Rank& rank, const Model& model, const Policy& policy, Workspace& ws);

    // `prompt_tokens` S; at most `new_tokens` steps; `budgets` by layer, what decoding keeps to (Cascade::budgets()). The cache must outlive its
    // membership.
    void add(SequenceCache& cache, int prompt_tokens, int new_tokens, std::span<const int> budgets);
    void remove(std::size_t index);
    std::size_t size() const { return members_.size(); }

    // Each sequence takes its token (position S, S + 1, ...). Returns the logits, host F32 [batch, vocab], equal on all
    // ranks. Where the policy evicts while decoding, what is over budget + window leaves at the end of the step.
    Tensor step(std::span<const TokenId> tokens);
    // The same step; returns each sequence's likeliest next token, equal on all ranks. Logits stay where they are.
    std::vector<TokenId> step_to_best(std::span<const TokenId> tokens);
    // The same step; returns on rank 0 each sequence's next token, drawn on the device by its draw; zeros on other ranks, whose
    // draws are not read. Logits stay where they are.
    std::vector<TokenId> step_to_sampled(std::span<const TokenId> tokens,
                                         std::span<const Draw> draws);

    // For who studies what attention makes. Steps are not captured then: the host has to see each layer.
    void on_attention(OnAttention call) { on_attention_ = std::move(call); }

    // Steps so far that were a graph's replay: on a GPU all but the first two of a batch size and table width, where
    // collectives can be captured.
    std::int64_t replayed_steps() const { return steps_.replays(); }

private:
    struct Member {
        SequenceCache* cache;
        int position;               // of the newest token
        std::vector<int> budgets;   // by layer
        std::vector<int> capacity;  // most entries a layer ever holds
    };
    bool evicts() const { return policy_.decode != DecodeEvict::None; }
    void make_room();
    void upload();
    enum class Wanted { Logits, Best, Sampled };
    void take(std::span<const TokenId> tokens, Wanted wanted);
    void put_step(const Rank& rank, Wanted wanted);
    bool shares_scores() const;
    RaggedRows score_slots(const Rank& rank);
    void share_scores(const Rank& rank, View scores);
    std::int64_t score_rows() const;
    void settle();

    Rank rank_;
    const Model& model_;
    Policy policy_;
    Workspace& ws_;
    std::vector<Member> members_;
    bool changed_ = true;  // membership or pages differ from what the device knows
    PagedBatch kv_;
    RaggedRows probs_, scores_;
    std::int64_t score_floats_ = 0;  // that scores_ takes
    Tensor staged_, uploaded_;       // what the views above lie in, pinned and on the device
    Tensor ids_;                     // pinned, [most sequences]: the tokens of the step
    Tensor draws_;  // pinned, F64 [most sequences, 5]: what the next are sampled by
    // By what is wanted, sequences, table width, and floats of scores that ranks share; all else that kernels get from the
    // host is fixed.
    CapturedSteps steps_;
    OnAttention on_attention_;
};

// Pages that a layer's table has room for where `pages` are needed. A step is captured for each width, so there are few: at
// most a quarter is to spare.
int table_width(int pages);

// Floats of one query head's probability rows over all layers of one sequence (WorkspaceSize::decode_rows).
std::int64_t decode_row_floats(const Policy& policy, int n_layers, int prompt_tokens,
                               int new_tokens);

}  // namespace cake
