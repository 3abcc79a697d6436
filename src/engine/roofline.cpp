#include "engine/roofline.h"

#include <algorithm>
#include <bit>

namespace cake {
namespace {

// What one rank reaches, per second.
struct Rates {
    double bytes, gemm, attention;
};

Rates rates_of_a_rank(const Machine& m, int ranks) {
    const int on_a_node = std::min(ranks, m.devices_per_node);
    const double part = m.shared ? 1.0 / on_a_node : 1;
    return {part * m.read_gb_s * 1e9, part * m.gemm_tflop_s * 1e12,
            part * m.attention_tflop_s * 1e12};
}

std::size_t memory_of_a_rank(const Machine& m, int ranks) {
    return m.memory_bytes / std::size_t(m.shared ? std::min(ranks, m.devices_per_node) : 1);
}

// FLOPs of attention in all layers over `keys` keys a query head, summed over queries.
double attention_flops(const ModelConfig& m, const Shard& s, double keys) {
    return 4.0 * m.n_layers * s.n_q() * m.d_head * keys;
}

// Bytes of keys and values of all layers for so many tokens.
double kv_bytes(const PlanInput& in, const Shard& s, double tokens) {
    return 2.0 * in.model.n_layers * s.n_kv() * tokens *
           double(bytes_of(in.cache, in.model.d_head));
}

// What a step reads: all weights but an embedding that is not the head too, of which it takes a row.
double weights_read(const PlanInput& in, const Shard& s) {
    const std::size_t embedding =
        in.model.tied_head ? 0 : in.weights.bytes_of(embedding_matrix(in.model, s));
    return double(model_bytes(in.model, s, in.weights, in.activation) - embedding);
}

std::int64_t prefill_chunks(const PlanInput& in) {
    const int chunk = workspace_size(in).chunk;
    return (in.prompt + chunk - 1) / chunk;
}

PrefillTime prefill_work(const PlanInput& in, const Policy& policy, const Shard& s,
                         const Rates& rate) {
    const double S = in.prompt;
    const auto chunks = double(prefill_chunks(in));
    PrefillTime t;
    t.linear = std::max(2 * (S * layer_macs(in.model, s) + logits_macs(in.model, s)) / rate.gemm,
                        chunks * weights_read(in, s) / rate.bytes);
    t.attention = attention_flops(in.model, s, S * (S + 1) / 2) / rate.attention;
    if (policy.observe == Observe::All)
        t.observe = t.attention;  // measured on the CPU: docs/performance.md
    if (policy.observe == Observe::Window && in.prompt > policy.window)
        // Scores without values: half of attention's FLOPs, and half of the cache, twice.
        t.observe = std::max(attention_flops(in.model, s, policy.window * S) / rate.attention,
                             kv_bytes(in, s, S) / rate.bytes);
    return t;
}

StepTime step_work(const PlanInput& in, const Policy& policy, const Shard& s, const Rates& rate) {
    const double keys = in.batch * tokens_read(policy, in.prompt, in.new_tokens);
    StepTime t;
    t.linear =
        std::max(weights_read(in, s) / rate.bytes,
                 2.0 * in.batch * (layer_macs(in.model, s) + logits_macs(in.model, s)) / rate.gemm);
    t.attention = std::max(kv_bytes(in, s, keys) / rate.bytes,
                           attention_flops(in.model, s, keys) / rate.attention);
    return t;
}

// Sums over the model's ranks, then exchanges among those that share a KV head: a sum and a broadcast of the owner's
// choice, which costs about as much. Ranks that share a head are neighbours.
void add_messages(const PlanInput& in, const Machine& m, Prediction& p) {
    const TrafficPlan& t = p.traffic;
    const std::int64_t L = in.model.n_layers;
    const int sharers = shard_of(in.model, in.ranks, 0).sharers;
    const std::int64_t row = 4LL * in.model.vocab;
    auto sum = [&](std::int64_t calls, double bytes) {
        return all_reduce_seconds(m, in.ranks, calls, bytes);
    };
    auto share = [&](std::int64_t calls, std::int64_t bytes) {
        return bytes > 0 ? all_reduce_seconds(m, sharers, calls, double(bytes)) : 0;
    };
    if (workspace_size(in).overlap) {
        // The embedding's sum, the first, is beside nothing.
        const std::int64_t chunks = prefill_chunks(in);
        const double waited_for = double(chunks % 2 == 0 ? 1 : 2) / double(2 * chunks);
        const double sums = sum(t.prefill_all_reduces - 1, double(t.prefill_all_reduce_bytes) *
                                                               double(2 * L) / double(2 * L + 1));
        p.prefill.hidden =
            std::min((1 - waited_for) * sums, p.prefill.linear + p.prefill.attention);
    }
    // An all-gather sends half of what a sum does.
    p.gather_bytes = in.ranks == 1 ? 0 : in.batch * (in.greedy ? 8 * in.ranks : row);
    p.prefill.all_reduce = sum(t.prefill_all_reduces, double(t.prefill_all_reduce_bytes)) +
                           sum(t.statistics_bytes > 0 ? L : 0, double(t.statistics_bytes)) +
                           sum(t.score_all_reduces, double(t.score_all_reduce_bytes)) +
                           share(2 * L, t.shared_head_bytes) + sum(1, double(row) / 2);
    p.step.all_reduce =
        sum(t.all_reduces_per_token, double(t.all_reduce_bytes_per_token)) +
        sum(t.score_all_reduces_per_token, double(t.score_all_reduce_bytes_per_token)) +
        share(2, t.shared_head_bytes_per_token) + sum(1, double(p.gather_bytes) / 2);
}

}  // namespace

double layer_macs(const ModelConfig& m, const Shard& s) {
    const double d = m.d_model, heads = double(2 * s.n_q() + 2 * s.n_kv()) * m.d_head;
    return m.n_layers * d * (heads + 3.0 * double(s.ff.size()));
}

double logits_macs(const ModelConfig& m, const Shard& s) {
    return double(m.d_model) * double(s.vocab.size());
}

double tokens_read(const Policy& policy, int prompt, int new_tokens) {
    const double grown = new_tokens / 2.0;
    if (policy.decode == DecodeEvict::None)
        return (policy.evicts(prompt) ? policy.cache_size : prompt) + grown;
    // While decoding, a prompt that stayed whole is cut to C too.
    return std::min(prompt + grown, double(policy.cache_size));
}

double all_reduce_seconds(const Machine& m, int ranks, std::int64_t calls, double bytes) {
    const int nodes = m.nodes(ranks), local = ranks / nodes;
    double latency_us = 0, sent = 0;  // seconds a GB
    if (local > 1) {
        latency_us += m.link_latency_us;
        sent += 2.0 * (local - 1) / local / m.link_gb_s;
    }
    if (nodes > 1) {
        const int doublings = std::bit_width(unsigned(nodes - 1));
        latency_us += doublings * m.network_latency_us;
        sent += 2.0 * (nodes - 1) / nodes / local / m.network_gb_s;
    }
    return double(calls) * latency_us * 1e-6 + bytes * 1e-9 * sent;
}

Prediction predict(const PlanInput& in, const Machine& m) {
    CAKE_CHECK(in.policies.size() == 1, "{} policies; a prediction is for one", in.policies.size());
    const Policy& policy = in.policies.front();
    const Rates rate = rates_of_a_rank(m, in.ranks);
    Prediction p;
    p.ranks = in.ranks;
    p.nodes = m.nodes(in.ranks);
    p.traffic = plan_traffic(in);
    for (int r = 0; r < in.ranks; ++r) {
        const RankPlan plan = plan_rank(in, r);
        p.rank_bytes = std::max(p.rank_bytes, plan.total());
        const PrefillTime prefill = prefill_work(in, policy, plan.shard, rate);
        if (prefill.total() > p.prefill.total())
            p.prefill = prefill;
        const StepTime step = step_work(in, policy, plan.shard, rate);
        if (step.total() > p.step.total()) {
            p.step = step;
            p.weight_bytes = weights_read(in, plan.shard);
            p.kv_bytes =
                kv_bytes(in, plan.shard, in.batch * tokens_read(policy, in.prompt, in.new_tokens));
        }
    }
    p.fits = p.rank_bytes <= memory_of_a_rank(m, in.ranks);
    add_messages(in, m, p);
    p.prompt_tokens_per_s = in.prompt / p.prefill.total();
    p.tokens_per_s = in.batch / p.step.total();
    return p;
}

nlohmann::json to_json(const Prediction& p) {
    return {{"ranks", p.ranks},
            {"nodes", p.nodes},
            {"fits", p.fits},
            {"rank_bytes", p.rank_bytes},
            {"prefill",
             {{"s", p.prefill.total()},
              {"tokens_per_s", p.prompt_tokens_per_s},
              {"linear_s", p.prefill.linear},
              {"attention_s", p.prefill.attention},
              {"observe_s", p.prefill.observe},
              {"all_reduce_s", p.prefill.all_reduce},
              {"hidden_s", p.prefill.hidden}}},
            {"decode",
             {{"tokens_per_s", p.tokens_per_s},
              {"step_ms", p.step.total() * 1e3},
              {"linear_s", p.step.linear},
              {"attention_s", p.step.attention},
              {"all_reduce_s", p.step.all_reduce},
              {"weight_bytes", p.weight_bytes},
              {"kv_bytes", p.kv_bytes},
              {"gather_bytes", p.gather_bytes}}},
            {"traffic", to_json(p.traffic)}};
}

}  // namespace cake
