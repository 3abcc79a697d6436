#include "model/shard.h"

#include <algorithm>

namespace cake {
namespace {

// The heads of a rank: kv_heads, q_heads and who shares them.
Shard heads_of(const ModelConfig& m, int ranks, int rank) {
    Shard s;
    s.rank = rank;
    s.ranks = ranks;
    if (ranks <= m.n_kv_heads) {
        s.kv_heads = even_run(m.n_kv_heads, ranks, rank);
        s.q_heads = {s.kv_heads.begin * m.group(), s.kv_heads.end * m.group()};
        return s;
    }
    int kv = 0;
    while (rank >= even_run(ranks, m.n_kv_heads, kv).end)
        ++kv;
    const Range sharers = even_run(ranks, m.n_kv_heads, kv);
    s.sharers = int(sharers.size());
    s.sharer = int(rank - sharers.begin);
    s.kv_heads = {kv, kv + 1};
    const Range mine = even_run(m.group(), s.sharers, s.sharer);
    s.q_heads = {kv * m.group() + mine.begin, kv * m.group() + mine.end};
    return s;
}

// MLP columns in units that keep vector loads and quantised blocks whole where there are enough of them.
Range ff_of(const ModelConfig& m, int ranks, int rank) {
    std::int64_t unit = std::max(32, traits(m.dtype).block_elements);
    while (unit > 1 && (m.d_ff % unit != 0 || m.d_ff / unit < 4 * ranks))
        unit /= 2;
    const Range units = even_run(m.d_ff / unit, ranks, rank);
    return {units.begin * unit, units.end * unit};
}

}  // namespace

Range even_run(std::int64_t n, int parts, int part) {
    const std::int64_t each = n / parts;
    const std::int64_t more = n % parts;
    const std::int64_t begin = part * each + std::min<std::int64_t>(part, more);
    return {begin, begin + each + (part < more ? 1 : 0)};
}

int max_ranks(const ModelConfig& model) { return model.n_heads; }

Shard shard_of(const ModelConfig& model, int ranks, int rank) {
    if (ranks > max_ranks(model))
        throw usage_error(
            "{} ranks are too many for this model: start at most {}, one for each query head",
            ranks, max_ranks(model));
    Shard s = heads_of(model, ranks, rank);
    s.ff = ff_of(model, ranks, rank);
    s.vocab = even_run(model.vocab, ranks, rank);
    return s;
}

}  // namespace cake
