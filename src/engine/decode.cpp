#include "engine/decode.h"

#include <algorithm>

#include "engine/evict.h"

namespace cake {
namespace {

template <typename T>
Tensor upload_values(const Rank& rank, const std::vector<T>& values, Shape shape) {
    Tensor out = rank.dev.tensor(dtype_of<T>, shape);
    rank.dev.copy(rank.stream, out, View(const_cast<T*>(values.data()), dtype_of<T>, shape));
    rank.dev.synchronize(rank.stream);  // `values` may die
    return out;
}

}  // namespace

DecodeBatch::DecodeBatch(const Rank& rank, const Model& model, const Policy& policy, Workspace& ws)
    : rank_(rank), model_(model), policy_(policy), ws_(ws) {}

void DecodeBatch::add(SequenceCache& cache, int prompt_tokens, int new_tokens,
                      std::span<const int> budgets) {
    Member m{&cache, prompt_tokens - 1, {budgets.begin(), budgets.end()}, {}};
    for (int l = 0; l < cache.n_layers(); ++l) {
        const int most = std::max(cache.length(l), m.budgets[std::size_t(l)] + policy_.window) + 1;
        m.capacity.push_back(std::min(most, cache.length(l) + new_tokens));
    }
    members_.push_back(std::move(m));
    changed_ = true;
}

void DecodeBatch::remove(std::size_t index) {
    members_.erase(members_.begin() + std::ptrdiff_t(index));
    changed_ = true;
}

// A slot for the token that each layer of each sequence is about to take.
void DecodeBatch::make_room() {
    for (const Member& m : members_)
        for (int l = 0; l < m.cache->n_layers(); ++l)
            changed_ |= m.cache->resize(rank_.dev, rank_.stream, l, m.cache->length(l) + 1);
}

// Page tables, lengths and budgets for the kernels. Between changes the kernels keep lengths and positions themselves.
void DecodeBatch::upload() {
    const int L = model_.config.n_layers, B = int(members_.size());
    std::size_t max_pages = 1;
    for (const Member& m : members_)
        for (int l = 0; l < L; ++l)
            max_pages = std::max(max_pages, m.cache->pages(l).size());

    std::vector<std::int32_t> tables(std::size_t(L * B) * max_pages, -1), lengths, budgets,
        positions;
    std::vector<std::int64_t> prob_offsets, score_offsets;
    std::int64_t rows = 0;  // floats of a head so far
    const bool observes = evicts() && policy_.observe != Observe::Nothing;
    for (int l = 0; l < L; ++l) {
        for (int b = 0; b < B; ++b) {
            const Member& m = members_[std::size_t(b)];
            const auto pages = m.cache->pages(l);
            std::copy(pages.begin(), pages.end(),
                      tables.begin() + std::ptrdiff_t(std::size_t(l * B + b) * max_pages));
            lengths.push_back(m.cache->length(l));
            budgets.push_back(evicts() ? m.budgets[std::size_t(l)] : -1);
            prob_offsets.push_back(observes ? rows * model_.shard.n_q() : -1);
            score_offsets.push_back(evicts() ? rows * score_rows() : -1);
            rows += evicts() ? m.capacity[std::size_t(l)] : 0;
        }
    }
    for (const Member& m : members_)
        positions.push_back(m.position);
    CAKE_CHECK(rows <= ws_.decode_scores.shape()[1],
               "probability rows of {} floats, {} were planned", rows,
               ws_.decode_scores.shape()[1]);

    const PagePool& pool = members_[0].cache->pool();
    tables_ = upload_values(rank_, tables, {L, B, std::int64_t(max_pages)});
    lengths_ = upload_values(rank_, lengths, {L, B});
    budgets_ = upload_values(rank_, budgets, {L, B});
    positions_ = upload_values(rank_, positions, {B});
    prob_offsets_ = upload_values(rank_, prob_offsets, {L, B});
    score_offsets_ = upload_values(rank_, score_offsets, {L, B});
    kv_ = {pool.layout(), pool.slab(), tables_, lengths_, budgets_, positions_};
    probs_ = {ws_.probs, prob_offsets_};
    scores_ = {ws_.decode_scores.view().reshaped({score_rows(), ws_.decode_scores.shape()[1]}),
               score_offsets_};
    score_floats_ = rows * score_rows();
    changed_ = false;
}

// What the kernels have done to lengths and pages, done to the books: the host never reads lengths back.
void DecodeBatch::settle() {
    for (Member& m : members_) {
        ++m.position;
        for (int l = 0; l < m.cache->n_layers(); ++l) {
            const int length = m.cache->length(l) + 1;
            const int most = m.budgets[std::size_t(l)] + policy_.window;
            if (evicts() && length > most) {
                m.cache->set_length(l, most);  // and a hole for the next token
                changed_ |= m.cache->resize(rank_.dev, rank_.stream, l, most + 1);
            } else {
                m.cache->set_length(l, length);
            }
        }
    }
}

// Rows of scores of a layer: of each KV head, or one for all of them.
std::int64_t DecodeBatch::score_rows() const {
    return policy_.heads == Heads::All ? 1 : model_.shard.n_kv();
}

// What the newest token's attention makes of the old ones: in scores_, or added to the running sums of the pages, and then
// nothing is returned.
RaggedRows DecodeBatch::score_slots() {
    const bool observes = policy_.observe != Observe::Nothing;
    const bool all_heads = policy_.heads == Heads::All;
    const float divisor = float(all_heads ? model_.config.n_heads : model_.config.group());
    {
        auto t = rank_.time(Phase::Evict);
        // Where nothing observes all are alike: the earliest entries stay, and the window. What is summed over ranks has
        // no gaps.
        if (!observes || all_heads || rank_.sharers)
            rank_.dev.fill_zero(rank_.stream, scores_.data);
        if (policy_.accumulates())
            rank_.dev.decode_means(rank_.stream, kv_, probs_, divisor, scores_);
        else if (observes)
            rank_.dev.decode_scores(rank_.stream, kv_, probs_, policy_.window, policy_.pool,
                                    divisor, scores_);
    }
    if (observes)
        share_scores(scores_.data.reshaped({score_floats_}));
    if (!policy_.accumulates())
        return scores_;
    auto t = rank_.time(Phase::Evict);
    rank_.dev.add_running(rank_.stream, kv_, scores_);
    return {};
}

// A rank has scored with its own query heads. Once a step, for all layers, these are summed over all ranks, or over those
// that share a KV head, which then take the owner's sum: the same bytes select the same tokens, so copies cannot differ.
void DecodeBatch::share_scores(View scores) {
    auto t = rank_.time(Phase::AllReduce);
    if (policy_.heads == Heads::All) {
        rank_.comm.all_reduce_sum(rank_.stream, scores);
    } else if (rank_.sharers) {
        rank_.sharers->all_reduce_sum(rank_.stream, scores);
        rank_.sharers->broadcast(rank_.stream, scores, 0);
    }
}

Tensor DecodeBatch::step(std::span<const TokenId> tokens) {
    CAKE_CHECK(tokens.size() == members_.size() && !tokens.empty(), "{} tokens for {} sequences",
               tokens.size(), members_.size());
    make_room();
    if (changed_)
        upload();
    rank_.dev.begin_step(rank_.stream, kv_);

    View x = embed(rank_, model_, tokens, ws_.decode_x, ws_);  // [batch, d_model]
    for (int l = 0; l < model_.config.n_layers; ++l)
        decode_layer(rank_, model_, l, x, kv_, probs_, ws_);
    Tensor logits = lm_head(rank_, model_, x, ws_);  // [batch, vocab]

    // Attention has used the uncut cache, the new token included. Now one entry leaves for each that came, in all
    // layers together: nothing reads them before the next step.
    if (evicts()) {
        const RaggedRows scores = score_slots();
        auto t = rank_.time(Phase::Evict);
        rank_.dev.decode_evict(rank_.stream, kv_, scores, policy_.window, decode_order(policy_));
    }
    settle();
    return logits;
}

std::int64_t decode_row_floats(const Policy& policy, int n_layers, int prompt_tokens,
                               int new_tokens) {
    if (policy.decode == DecodeEvict::None)
        return 0;
    const std::int64_t L = n_layers;
    if (policy.evicts(prompt_tokens))
        return L * policy.prefix_budget() + L * (policy.window + 1);
    return L * std::min<std::int64_t>(std::max(prompt_tokens, policy.cache_size) + std::int64_t(1),
                                      std::int64_t(prompt_tokens) + new_tokens);
}

}  // namespace cake
