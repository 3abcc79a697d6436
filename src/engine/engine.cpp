#include "engine/engine.h"

#include <algorithm>

#include "engine/decode.h"
#include "engine/evict.h"

namespace cake {
namespace {

Shard my_shard(const PlanInput& plan, const Communicator& comm) {
    CAKE_CHECK(plan.ranks == comm.size(), "planned for {} ranks, started on {}", plan.ranks,
               comm.size());
    return shard_of(plan.model, comm.size(), comm.rank());
}

// A KV head that ranks share is its owner's to report.
std::vector<LayerResult> layer_results(const Rank& rank, const Shard& shard, const Eviction& e) {
    std::vector<LayerResult> out;
    for (int l = 0; l < e.cache.n_layers(); ++l) {
        LayerResult r;
        r.seen = e.seen[std::size_t(l)];
        r.kept = e.cache.length(l);
        r.budget = e.cascade.evicts() ? e.cascade.budgets()[std::size_t(l)] : r.kept;
        if (shard.owns_kv())
            r.positions = e.cache.positions(rank.dev, rank.stream, l);
        out.push_back(std::move(r));
    }
    return out;
}

}  // namespace

Engine::Engine(Backend& dev, Communicator& comm, const Checkpoint& checkpoint,
               const PlanInput& plan, const std::function<void(int)>& progress)
    : dev_(dev),
      comm_(comm),
      plan_(plan),
      model_(load_model(dev, checkpoint, plan.model, my_shard(plan, comm), plan.weights, progress)),
      workspace_(dev, plan.model, model_.shard, workspace_size(plan)),
      pool_(std::make_unique<PagePool>(dev, page_layout(plan, model_.shard),
                                       int(plan_rank(plan, comm.rank()).pages))),
      load_s_(load_timer_.seconds()) {}

Rank Engine::rank(PhaseTimes& times) {
    if (!sharers_ && model_.shard.ranks > plan_.model.n_kv_heads)
        sharers_ = comm_.split(int(model_.shard.kv_heads.begin));
    return {dev_, comm_, &times, {}, model_.shard.shares_kv() ? sharers_.get() : nullptr};
}

Communicator::Traffic Engine::sharing_traffic() const {
    return sharers_ ? sharers_->traffic() : Communicator::Traffic{};
}

Generation Engine::generate(const Request& request, const OnToken& on_token,
                            const PrefillOptions& options) {
    const int S = int(request.prompt.size());
    CAKE_CHECK(S == plan_.prompt && request.max_new_tokens <= plan_.new_tokens,
               "a prompt of {} and {} new tokens, planned for {} and {}", S, request.max_new_tokens,
               plan_.prompt, plan_.new_tokens);
    const Policy& policy = plan_.policies.front();
    const Rank rank = this->rank(prefill_times_), decode_rank = this->rank(decode_times_);
    Generation out;

    Timer since_request;
    SequenceCache cache(*pool_, plan_.model.n_layers);
    std::vector<Eviction> evictions;
    evictions.emplace_back(policy, plan_.model.n_layers, S, cache);
    Tensor logits =
        prefill(rank, model_, request.prompt, evictions, workspace_, options);  // [1, vocab]
    out.timings.prefill_s = since_request.seconds();
    prefill_times_.total_s += out.timings.prefill_s;
    out.evicted = evictions[0].cascade.evicts();

    DecodeBatch batch(decode_rank, model_, policy, workspace_);
    batch.add(cache, S, request.max_new_tokens, evictions[0].cascade.budgets());
    Sampler sampler(request.sampling);
    sampler.seen(request.prompt);
    const auto& eos = request.end_of_sequence;
    Timer decoding, since_token;
    out.finish_reason = "length";
    while (int(out.tokens.size()) < request.max_new_tokens) {
        // Rank 0 samples and decides, so that no rounding can let ranks disagree.
        struct {
            TokenId token;
            std::int32_t is_answer, go_on;
        } next{};
        if (comm_.rank() == 0) {
            auto t = decode_rank.time(Phase::Sampling);
            next.token = sampler.sample(logits.span<float>());
            next.is_answer = std::find(eos.begin(), eos.end(), next.token) == eos.end();
            next.go_on = next.is_answer && (!on_token || on_token(next.token));
        }
        comm_.broadcast_bytes(std::as_writable_bytes(std::span(&next, 1)), 0);
        if (out.tokens.empty()) {
            out.timings.ttft_s = since_request.seconds();
            out.layers = layer_results(rank, model_.shard, evictions[0]);
        } else {
            out.timings.inter_token_ms.push_back(1e3 * since_token.seconds());
        }
        since_token = Timer();
        if (next.is_answer) {
            out.tokens.push_back(next.token);
            if (sampler.logprobs())
                out.logprobs.push_back(*sampler.logprobs());
        }
        if (!next.go_on) {
            out.finish_reason = "stop";
            break;
        }
        if (int(out.tokens.size()) < request.max_new_tokens)
            logits = batch.step(std::span(&next.token, 1));
    }
    if (out.layers.empty())
        out.layers = layer_results(rank, model_.shard, evictions[0]);
    if (options.check)
        check_equal_copies(rank, cache);
    out.timings.decode_s = decoding.seconds();
    decode_times_.total_s += out.timings.decode_s;
    return out;
}

}  // namespace cake
