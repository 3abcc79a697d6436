#include "engine/evict.h"

#include "base/hash.h"

namespace cake {

View top_k(const Rank& rank, View score, int count, Workspace& ws) {
    auto t = rank.time(Phase::Evict);
    View keep = ws.keep.view().reshaped({score.dim(0), count});
    rank.dev.top_k(rank.stream, score, keep);
    if (rank.sharers)  // the owner's choice, so that copies of a head can never differ
        rank.sharers->broadcast(rank.stream, keep, 0);
    return keep;
}

void keep_tokens(const Rank& rank, SequenceCache& cache, int l, const LayerKv& kv, int window,
                 View keep, View running) {
    auto t = rank.time(Phase::Evict);
    cache.store(rank.dev, rank.stream, l, kv.k, kv.v, window, keep, running);
}

void prepare_decoding(const Rank& rank, const Policy& policy, SequenceCache& cache) {
    auto t = rank.time(Phase::Evict);
    cache.order(rank.dev, rank.stream, decode_order(policy));
}

void check_equal_on_all_ranks(Communicator& comm, std::span<const int> values, const char* what) {
    const std::string mine = hex64(fnv1a(std::as_bytes(values)));
    const auto all = comm.gather_strings(mine);
    for (std::size_t r = 0; r < all.size(); ++r)
        if (all[r] != all[0])
            throw Error(fmt::format("{} differ between rank 0 and rank {} ({} and {})", what, r,
                                    all[0], all[r]));
}

void check_equal_copies(const Rank& rank, const Policy& policy, const SequenceCache& cache) {
    const bool all_alike = policy.heads == Heads::All;
    if (!rank.sharers && !all_alike)
        return;
    std::vector<int> held;
    for (int l = 0; l < cache.n_layers(); ++l) {
        auto heads = cache.positions(rank.dev, rank.stream, l);
        if (all_alike) {  // ranks may have different numbers of heads: one speaks for all
            for (const auto& head : heads)
                CAKE_CHECK(head == heads[0], "KV heads of layer {} hold different tokens", l);
            heads.resize(1);
        }
        for (const auto& head : heads)
            held.insert(held.end(), head.begin(), head.end());
    }
    check_equal_on_all_ranks(all_alike ? rank.comm : *rank.sharers, held,
                             all_alike ? "the tokens of all heads" : "copies of a shared KV head");
}

}  // namespace cake
