#include "engine/decode.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "engine/evict.h"

namespace cake {
namespace {

// Host values, and the view that will be them in device memory.
struct Upload {
    View* to;
    DType dtype;
    Shape shape;
    std::span<const std::byte> values;
};

template <typename T>
Upload upload_of(View& to, const std::vector<T>& values, Shape shape) {
    return {&to, dtype_of<T>, shape, std::as_bytes(std::span(values))};
}

// In one copy, through memory that only grows, and at least doubles; returns whether it is other memory than before.
// `staged` is free: a step waits for the device before it returns.
bool upload_together(const Rank& rank, std::span<const Upload> uploads, Tensor& staged,
                     Tensor& device) {
    constexpr std::size_t alignment = 64;
    const auto room = [](const Upload& u) {
        return (u.values.size() + alignment - 1) / alignment * alignment;
    };
    std::size_t bytes = 0;
    for (const Upload& u : uploads)
        bytes += room(u);
    const std::int64_t elements = std::int64_t(bytes);
    const bool grows = device.bytes() < bytes;
    if (grows) {
        rank.dev.synchronize(rank.stream);  // kernels may still read what is given back
        const std::int64_t room_for = std::max(elements, 2 * std::int64_t(device.bytes()));
        device = {};  // not both at once
        staged = rank.dev.tensor(DType::U8, {room_for}, Place::Pinned);
        device = rank.dev.tensor(DType::U8, {room_for});
    }
    std::size_t at = 0;
    for (const Upload& u : uploads) {
        std::memcpy(staged.span<std::uint8_t>().data() + at, u.values.data(), u.values.size());
        *u.to = View(static_cast<std::byte*>(device.view().data()) + at, u.dtype, u.shape);
        at += room(u);
    }
    rank.dev.copy(rank.stream, device.view().reshaped({elements}),
                  staged.view().reshaped({elements}));
    return grows;
}

}  // namespace

int table_width(int pages) {
    const int step = std::max(int(std::bit_floor(unsigned(pages))) / 4, 1);
    return (pages + step - 1) / step * step;
}

DecodeBatch::DecodeBatch(const Rank& rank, const Model& model, const Policy& policy, Workspace& ws)
    : rank_(rank),
      model_(model),
      policy_(policy),
      ws_(ws),
      ids_(rank.dev.tensor(DType::I32, {ws.size.batch}, Place::Pinned)),
      draws_(rank.dev.tensor(DType::F64, {ws.size.batch, 5}, Place::Pinned)),
      steps_(rank) {}

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
    int most_pages = 1;
    for (const Member& m : members_)
        for (int l = 0; l < L; ++l)
            most_pages = std::max(most_pages, int(m.cache->pages(l).size()));
    const auto max_pages = std::size_t(table_width(most_pages));

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
    kv_.layout = pool.layout();
    kv_.pool = pool.slab();
    probs_.data = ws_.probs;
    scores_.data = ws_.decode_scores.view().reshaped({score_rows(), ws_.decode_scores.shape()[1]});
    const bool moved = upload_together(
        rank_,
        std::array{upload_of(kv_.tables, tables, {L, B, std::int64_t(max_pages)}),
                   upload_of(kv_.lengths, lengths, {L, B}), upload_of(kv_.budgets, budgets, {L, B}),
                   upload_of(kv_.positions, positions, {B}),
                   upload_of(probs_.offsets, prob_offsets, {L, B}),
                   upload_of(scores_.offsets, score_offsets, {L, B})},
        staged_, uploaded_);
    if (moved)
        steps_.forget();
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

// Whether ranks sum what they observe while decoding, in a message as long as all sequences' rows.
bool DecodeBatch::shares_scores() const {
    return evicts() && policy_.observe != Observe::Nothing &&
           (policy_.heads == Heads::All || rank_.sharers);
}

// What the newest token's attention makes of the old ones: in scores_, or added to the running sums of the pages, and then
// nothing is returned.
RaggedRows DecodeBatch::score_slots(const Rank& rank) {
    const bool observes = policy_.observe != Observe::Nothing;
    const bool all_heads = policy_.heads == Heads::All;
    const float divisor = float(all_heads ? model_.config.n_heads : model_.config.group());
    {
        auto t = rank.time(Phase::Evict);
        // Where nothing observes all are alike: the earliest entries stay, and the window. What is summed over ranks has
        // no gaps.
        if (!observes || all_heads || rank.sharers)
            rank.dev.fill_zero(rank.stream, scores_.data);
        if (policy_.accumulates())
            rank.dev.decode_means(rank.stream, kv_, probs_, divisor, scores_);
        else if (observes)
            rank.dev.decode_scores(rank.stream, kv_, probs_, policy_.window, policy_.pool, divisor,
                                   scores_);
    }
    if (observes)
        share_scores(rank, scores_.data.reshaped({score_floats_}));
    if (!policy_.accumulates())
        return scores_;
    auto t = rank.time(Phase::Evict);
    rank.dev.add_running(rank.stream, kv_, scores_);
    return {};
}

// A rank has scored with its own query heads. Once a step, for all layers, these are summed over all ranks, or over those
// that share a KV head, which then take the owner's sum: the same bytes select the same tokens, so copies cannot differ.
void DecodeBatch::share_scores(const Rank& rank, View scores) {
    auto t = rank.time(Phase::AllReduce);
    if (policy_.heads == Heads::All) {
        rank.comm.all_reduce_sum(rank.stream, scores);
    } else if (rank.sharers) {
        rank.sharers->all_reduce_sum(rank.stream, scores);
        rank.sharers->broadcast(rank.stream, scores, 0);
    }
}

Tensor DecodeBatch::step(std::span<const TokenId> tokens) {
    take(tokens, Wanted::Logits);
    Tensor logits = wait_for_logits(rank_, model_, kv_.batch(), ws_);
    settle();
    return logits;
}

std::vector<TokenId> DecodeBatch::step_to_best(std::span<const TokenId> tokens) {
    take(tokens, Wanted::Best);
    std::vector<TokenId> best = wait_for_best(rank_, kv_.batch(), ws_);
    settle();
    return best;
}

std::vector<TokenId> DecodeBatch::step_to_sampled(std::span<const TokenId> tokens,
                                                  std::span<const Draw> draws) {
    CAKE_CHECK(draws.size() == members_.size(), "{} draws for {} sequences", draws.size(),
               members_.size());
    std::memcpy(draws_.view().data(), draws.data(), draws.size_bytes());
    take(tokens, Wanted::Sampled);
    std::vector<TokenId> sampled = wait_for_sampled(rank_, kv_.batch(), ws_);
    settle();
    return sampled;
}

void DecodeBatch::take(std::span<const TokenId> tokens, Wanted wanted) {
    CAKE_CHECK(tokens.size() == members_.size() && !tokens.empty(), "{} tokens for {} sequences",
               tokens.size(), members_.size());
    make_room();
    if (changed_)
        upload();
    std::copy(tokens.begin(), tokens.end(), ids_.span<TokenId>().begin());
    if (on_attention_)
        return put_step(rank_, wanted);
    steps_.run(
        {std::int64_t(wanted), kv_.batch(), kv_.tables.dim(2), shares_scores() ? score_floats_ : 0},
        [=, this](const Rank& rank) { put_step(rank, wanted); });
}

// Puts into the stream all that the device does in a step: for the tokens that ids_ holds, and for the tables as they are
// uploaded, by the time that the stream gets there.
void DecodeBatch::put_step(const Rank& rank, Wanted wanted) {
    rank.dev.begin_step(rank.stream, kv_);
    const std::span<const TokenId> ids = ids_.span<TokenId>().first(members_.size());
    View x = embed(rank, model_, ids, ws_.decode_x, ws_);  // [batch, d_model]
    for (int l = 0; l < model_.config.n_layers; ++l) {
        rank.at(RunPart::Decode, l);
        decode_layer(rank, model_, l, x, kv_, probs_, ws_);
        if (on_attention_)
            on_attention_(l, ws_.attn.view().rows(0, x.dim(0)));
    }
    switch (wanted) {
        case Wanted::Logits: lm_head(rank, model_, x, ws_); break;
        case Wanted::Best: lm_head_best(rank, model_, x, ws_); break;
        case Wanted::Sampled:
            lm_head_sampled(rank, model_, x, draws_.view().rows(0, x.dim(0)), ws_);
            break;
    }

    // Attention has used the uncut cache, the new token included. Now one entry leaves for each that came, in all
    // layers together: nothing reads them before the next step.
    if (evicts()) {
        const RaggedRows scores = score_slots(rank);
        auto t = rank.time(Phase::Evict);
        rank.dev.decode_evict(rank.stream, kv_, scores, policy_.window, decode_order(policy_));
    }
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
