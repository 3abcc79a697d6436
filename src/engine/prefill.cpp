#include "engine/prefill.h"

#include "engine/evict.h"

namespace cake {
namespace {

Watch watch_for(std::span<const Eviction> evictions, const PrefillOptions& options) {
    Watch watch{.share = options.share_statistics};
    for (const Eviction& e : evictions)
        watch.columns |= e.policy.observe == Observe::All;
    return watch;
}

}  // namespace

Tensor prefill(const Rank& rank, const Model& model, std::span<const TokenId> prompt,
               std::span<Eviction> evictions, Workspace& ws, const PrefillOptions& options) {
    const int S = int(prompt.size());
    const Watch watch = watch_for(evictions, options);
    View x = embed(rank, model, prompt, ws.x, ws);  // [S, d_model]

    for (int l = 0; l < model.config.n_layers; ++l) {
        // The whole prompt passes through layer l. K and V fill a scratch that the next layer reuses, so only one
        // layer's full cache exists at any time.
        rank.at(RunPart::Prefill, l);
        Observer observer(rank, model.config, S, ws, watch);
        LayerKv kv = forward_layer(  // [n_kv, S, d_head]
            rank, model, l, x, ws,
            [&](View q, const LayerKv& so_far, int first) { observer.see(q, so_far, first); },
            [&](int tokens) { options.report(l, tokens); });

        rank.wait();  // from here on time is a policy's own
        for (auto& [policy, cascade, cache, seen, own] : evictions) {
            const PhaseShare share(rank.times, rank.stream, own);
            // How widely (H) and how restlessly (V) did the window attend? Every query head lives on exactly one rank,
            // so two summed numbers are the global answer: P = H^(1/tau1) * V^(1/tau2).
            seen.push_back(observer.preference(policy, kv));
            cascade.add(seen.back() ? seen.back()->preference : 0);
            if (options.check)
                check_equal_on_all_ranks(rank.comm, cascade.budgets(), "budgets");

            // The cake is cut again. Kept tokens are stored best first, so a smaller share is a shorter prefix:
            // earlier layers hand back their tail pages, nothing moves.
            std::span<const int> kept = cascade.kept();  // tokens, layers 0..l
            for (int j = 0; j < l; ++j)
                cache.truncate(j, kept[j]);

            // Layer l keeps its window and, for each KV head, its kept[l] best older tokens.
            View score = observer.scores(policy, kv);     // [n_kv, S - window]
            View keep = top_k(rank, score, kept[l], ws);  // [n_kv, kept[l]], best first
            keep_tokens(rank, cache, l, kv, cascade.window(), keep, observer.running(policy));
        }
        if (!options.go_on(l)) {
            rank.wait();  // what is booked to a policy is booked before it goes
            return {};
        }
    }
    for (auto& e : evictions) {
        prepare_decoding(rank, e.policy, e.cache);
        if (options.check)
            check_equal_copies(rank, e.policy, e.cache);
    }
    lm_head(rank, model, x.row(S - 1), ws);
    return wait_for_logits(rank, model, 1, ws);
}

}  // namespace cake
