#include "model/layer.h"

#include <algorithm>
#include <cstring>

namespace cake {
namespace {

// `at_once`: rows that the backend gets at a time.
void linear(const Rank& rank, View x, View weight, View bias, View out, std::int64_t at_once) {
    auto t = rank.time(Phase::Linear);
    for (std::int64_t r = 0; r < x.dim(0); r += at_once) {
        const std::int64_t n = std::min(at_once, x.dim(0) - r);
        rank.dev.linear(rank.stream, x.rows(r, n), {weight, bias}, out.rows(r, n));
    }
}

void all_reduce(const Rank& rank, View data) {
    auto t = rank.time(Phase::AllReduce);
    rank.comm.all_reduce_sum(rank.stream, data);
}

// The half of a block that attends, but for the sum over ranks: delta = this rank's part of attention(norm(x)), that of its
// own heads.  x, delta: [n, d_model]. `owed`: what the layer before has to add to x first, or empty. `attend` turns
// queries, keys and values [n, (n_q + 2 n_kv) d_head] into [n, n_q d_head]. `at_once`: rows that pass through a linear layer
// at a time.
template <typename Attend>
void attention_half(const Rank& rank, const Model& model, const LayerWeights& w, View x, View owed,
                    View delta, Workspace& ws, std::int64_t at_once, Attend attend) {
    const std::int64_t n = x.dim(0);
    View normed = ws.normed.view().rows(0, n);
    View qkv = ws.qkv.view().rows(0, n);
    View attn = ws.attn.view().rows(0, n);

    if (owed.data())
        rank.dev.add_rms_norm(rank.stream, x, owed, w.attn_norm, model.config.rms_eps, normed);
    else
        rank.dev.rms_norm(rank.stream, x, w.attn_norm, model.config.rms_eps, normed);
    linear(rank, normed, w.qkv, w.qkv_bias, qkv, at_once);  // [n, (n_q + 2 n_kv) d_head]
    attend(qkv, attn);                                      // [n, n_q d_head]
    linear(rank, attn, w.out, {}, delta, at_once);          // [n, d_model]
}

// The other half: x += delta, now the sum over ranks, then delta = this rank's part of mlp(norm(x)), that of its own columns, a
// part of the rows after another.
void mlp_half(const Rank& rank, const Model& model, const LayerWeights& w, View x, View delta,
              Workspace& ws, std::int64_t at_once) {
    const std::int64_t n = x.dim(0);
    View normed = ws.normed.view().rows(0, n);

    rank.dev.add_rms_norm(rank.stream, x, delta, w.mlp_norm, model.config.rms_eps, normed);
    const std::int64_t part = rows_of_part(n, mlp_rows);
    for (std::int64_t r = 0; r < n; r += part) {
        const std::int64_t m = std::min(part, n - r);
        View gate_up = ws.gate_up.view().rows(0, m);
        View act = ws.act.view().rows(0, m);
        linear(rank, normed.rows(r, m), w.gate_up, {}, gate_up, at_once);  // [m, 2 ff]
        rank.dev.silu_mul(rank.stream, gate_up, act);                      // [m, ff]
        linear(rank, act, w.down, {}, delta.rows(r, m), at_once);          // [m, d_model]
    }
}

// One of the chunks that are in a block together, and the sum over ranks that it waits for. Alone, it waits in the stream
// that computes. Two take turns: the sum of one is made beside what the other computes.
class Lane {
public:
    Lane(const Rank& rank, View delta, bool beside)
        : rank_(rank), all_delta_(delta), beside_(beside) {}

    // The chunk x [n, d_model] follows the one before, whose last sum is added to it now.
    void enter(View x) {
        leave();
        x_ = x;
        delta_ = all_delta_.rows(0, x.dim(0));
    }
    void leave() {
        if (!x_.data())
            return;
        wait();
        rank_.dev.add(rank_.stream, x_, delta_);
        x_ = {};
    }

    View x() const { return x_; }
    View delta() const { return delta_; }

    // Starts the sum over ranks of delta.
    void sum() {
        if (!beside_)
            return all_reduce(rank_, delta_);
        rank_.dev.wait(rank_.wire, rank_.dev.record(rank_.stream));
        rank_.comm.all_reduce_sum(rank_.wire, delta_);
        summed_ = rank_.dev.record(rank_.wire);
    }
    // Lets the stream wait for it.
    void wait() {
        if (!beside_)
            return;
        auto t = rank_.time(Phase::AllReduce);
        rank_.dev.wait(rank_.stream, summed_);
    }

private:
    const Rank& rank_;
    View all_delta_;  // [chunk, d_model]
    bool beside_;
    View x_, delta_;
    Event summed_;
};

// Logits of rows x [n, d_model] over this rank's part of the vocabulary: [n, vocab/R].
View own_logits(const Rank& rank, const Model& model, View x, Workspace& ws) {
    View normed = ws.normed.view().rows(0, x.dim(0));
    View logits = ws.logits.view().rows(0, x.dim(0));
    rank.dev.rms_norm(rank.stream, x, model.final_norm, model.config.rms_eps, normed);
    linear(rank, normed, model.lm_head(), {}, logits, rank.dev.exact_rows());
    return logits;
}

// Logits of rows x [n, d_model] of all ranks, on all ranks: R parts of [n, vocab/R], one after another.
View gathered_logits(const Rank& rank, const Model& model, View x, Workspace& ws) {
    const ModelConfig& config = model.config;
    const std::int64_t n = x.dim(0);
    const int ranks = rank.comm.size();
    View logits = own_logits(rank, model, x, ws);
    View gathered = ws.all_logits.view().reshaped({n * config.vocab});

    std::vector<std::int64_t> parts;
    for (int r = 0; r < ranks; ++r)
        parts.push_back(n * even_run(config.vocab, ranks, r).size());
    auto t = rank.time(Phase::AllReduce);
    rank.comm.all_gather(rank.stream, logits.reshaped({logits.elements()}), parts, gathered);
    return gathered;
}

// What a step has in place of logits, in memory that these have otherwise.
View in_place_of(const Tensor& logits, DType dtype, Shape shape) {
    CAKE_CHECK(logits.bytes() >= bytes_of(dtype, shape.elements()), "{} {} in {} bytes",
               shape.str(), name(dtype), logits.bytes());
    return View(logits.view().data(), dtype, shape);
}

// Keys of n rows by rank.
View keys_in(const Tensor& logits, int ranks, std::int64_t n) {
    return in_place_of(logits, DType::I64, {ranks, n});
}

}  // namespace

View embed(const Rank& rank, const Model& model, std::span<const TokenId> ids, View to,
           Workspace& ws) {
    const auto n = std::int64_t(ids.size());
    View device_ids = ws.ids.view().reshaped({n});
    View x = to.rows(0, n);
    rank.dev.copy(rank.stream, device_ids, View(const_cast<TokenId*>(ids.data()), DType::I32, {n}));
    rank.dev.embed(rank.stream, device_ids, model.embedding, model.shard.vocab.begin, x);
    all_reduce(rank, x);
    return x;
}

LayerKv forward_layer(const Rank& rank, const Model& model, int l, View x, Workspace& ws,
                      const OnQueries& on_queries, const OnTokens& on_tokens) {
    const Shard& shard = model.shard;
    const std::int64_t S = x.dim(0), d = model.config.d_head;
    LayerKv kv{ws.k.view().reshaped({shard.n_kv(), S, d}),
               ws.v.view().reshaped({shard.n_kv(), S, d})};

    // Attention of a chunk needs keys of this layer up to its own end only, so each chunk passes through the whole
    // block; what a block needs beside x and K, V is of a chunk's size.
    const LayerWeights& w = model.layers[std::size_t(l)];
    const std::int64_t chunk = rows_of_part(S, ws.size.chunk, ws.size.overlap);
    const auto attend = [&](Lane& lane, std::int64_t first) {
        const std::int64_t n = std::min(chunk, S - first);
        View q = ws.q.view().rows(0, n);  // [n, n_q, d_head]
        lane.enter(x.rows(first, n));
        attention_half(rank, model, w, lane.x(), {}, lane.delta(), ws, n, [&](View qkv, View attn) {
            auto t = rank.time(Phase::Attention);
            rank.dev.rope_split(rank.stream, qkv, model.inv_freq, model.rope_scale(), first, q,
                                kv.k, kv.v);
            rank.dev.attention(rank.stream, q, kv.k, kv.v, first, attn.reshaped(q.shape()));
        });
        lane.sum();
        on_queries(q, kv, int(first));
    };
    const auto pass_mlp = [&](Lane& lane, std::int64_t first) {
        const std::int64_t n = lane.x().dim(0);
        lane.wait();
        mlp_half(rank, model, w, lane.x(), lane.delta(), ws, n);
        lane.sum();
        if (on_tokens)
            on_tokens(int(first + n));
    };

    // Chunks in pairs, where the workspace has what two take turns in: each sum then has half a block of the other chunk
    // to hide behind. What both compute in, they use one after the other.
    const bool in_turn = ws.other_delta.bytes() > 0 && chunk < S;
    Lane even(rank, ws.delta, in_turn), odd(rank, ws.other_delta, in_turn);
    for (std::int64_t first = 0; first < S; first += in_turn ? 2 * chunk : chunk) {
        const std::int64_t second = first + chunk;
        const bool both = in_turn && second < S;
        attend(even, first);
        if (both)
            attend(odd, second);
        else
            odd.leave();
        pass_mlp(even, first);
        if (both)
            pass_mlp(odd, second);
    }
    even.leave();
    odd.leave();
    return kv;
}

void decode_layer(const Rank& rank, const Model& model, int l, View x, const PagedBatch& kv,
                  const RaggedRows& probs, Workspace& ws) {
    const LayerWeights& w = model.layers[std::size_t(l)];
    const std::int64_t at_once = rank.dev.exact_rows();
    View q = ws.q.view().rows(0, x.dim(0));          // [batch, n_q, d_head]
    View delta = ws.delta.view().rows(0, x.dim(0));  // [batch, d_model]

    attention_half(
        rank, model, w, x, l > 0 ? delta : View(), delta, ws, at_once, [&](View qkv, View attn) {
            auto t = rank.time(Phase::Attention);
            rank.dev.rope_append(rank.stream, qkv, model.inv_freq, model.rope_scale(), l, kv, q);
            rank.dev.decode_attention(rank.stream, q, l, kv, probs, attn.reshaped(q.shape()));
        });
    all_reduce(rank, delta);
    mlp_half(rank, model, w, x, delta, ws, at_once);
    all_reduce(rank, delta);
    if (l + 1 == model.config.n_layers)
        rank.dev.add(rank.stream, x, delta);
}

void lm_head(const Rank& rank, const Model& model, View x, Workspace& ws) {
    View gathered = gathered_logits(rank, model, x, ws);
    rank.dev.copy(rank.stream, ws.host_logits.view().reshaped(gathered.shape()), gathered);
}

void lm_head_sampled(const Rank& rank, const Model& model, View x, View draws, Workspace& ws) {
    const std::int64_t n = x.dim(0);
    View gathered = gathered_logits(rank, model, x, ws);
    if (rank.comm.rank() != 0)
        return;
    View device_draws = ws.draws.view().rows(0, n);
    View tokens = ws.ids.view().reshaped({n});
    auto t = rank.time(Phase::Sampling);
    rank.dev.copy(rank.stream, device_draws, draws);
    rank.dev.sample(rank.stream, gathered, rank.comm.size(), device_draws, tokens);
    rank.dev.copy(rank.stream, in_place_of(ws.host_logits, DType::I32, {n}), tokens);
}

std::vector<TokenId> wait_for_sampled(const Rank& rank, std::int64_t n, const Workspace& ws) {
    rank.wait();
    if (rank.comm.rank() != 0)
        return std::vector<TokenId>(std::size_t(n));
    const auto tokens = in_place_of(ws.host_logits, DType::I32, {n}).span<TokenId>();
    return {tokens.begin(), tokens.end()};
}

void lm_head_best(const Rank& rank, const Model& model, View x, Workspace& ws) {
    const std::int64_t n = x.dim(0);
    const int ranks = rank.comm.size();
    View logits = own_logits(rank, model, x, ws);  // [n, vocab/R]
    View keys = keys_in(ws.all_logits, ranks, n);  // [R, n]
    View mine = keys.row(rank.comm.rank()).reshaped({n});
    rank.dev.argmax(rank.stream, logits, model.shard.vocab.begin, mine);
    {
        auto t = rank.time(Phase::AllReduce);
        rank.comm.all_gather(rank.stream, mine, std::vector(std::size_t(ranks), n), keys);
    }
    rank.dev.copy(rank.stream, keys_in(ws.host_logits, ranks, n), keys);
}

std::vector<TokenId> wait_for_best(const Rank& rank, std::int64_t n, const Workspace& ws) {
    rank.wait();
    const auto keys = keys_in(ws.host_logits, rank.comm.size(), n).span<std::int64_t>();
    std::vector<TokenId> out;
    for (std::size_t i = 0; i < std::size_t(n); ++i) {
        auto least = std::uint64_t(keys[i]);
        for (std::size_t at = i; at < keys.size(); at += std::size_t(n))
            least = std::min(least, std::uint64_t(keys[at]));
        out.push_back(TokenId(std::uint32_t(least)));
    }
    return out;
}

Tensor wait_for_logits(const Rank& rank, const Model& model, std::int64_t n, const Workspace& ws) {
    const ModelConfig& config = model.config;
    const int ranks = rank.comm.size();
    rank.wait();
    Tensor out = Tensor::host(DType::F32, {n, config.vocab});  // rows whole again
    const float* from = ws.host_logits.view().as<float>();
    for (int r = 0; r < ranks; ++r) {
        const Range run = even_run(config.vocab, ranks, r);
        for (std::int64_t i = 0; i < n; ++i, from += run.size())
            std::memcpy(out.view().row(i).as<float>() + run.begin, from,
                        std::size_t(run.size()) * sizeof(float));
    }
    return out;
}

}  // namespace cake
