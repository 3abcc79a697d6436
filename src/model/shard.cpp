#include "model/shard.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace cake {
namespace {

// Attention's share of a token's work depends on the prompt; borders are drawn for prompts of about this length.
constexpr double balance_tokens = 2048;

// Multiplications of a token in attention, for `n_q` query and `n_kv` KV heads: qkv and output projections, scores and
// weighted sum over the keys.
double attention_work(const ModelConfig& m, double n_q, double n_kv) {
    const double projections = (2 * n_q + 2 * n_kv) * m.d_head * m.d_model;
    return projections + 2 * n_q * m.d_head * balance_tokens;
}

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

// Borders of the MLP columns, [ranks + 1], in units that keep vector loads and quantised blocks whole where there
// are enough of them.
std::vector<std::int64_t> ff_borders(const ModelConfig& m, int ranks) {
    std::int64_t unit = std::max(32, traits(m.dtype).block_elements);
    while (unit > 1 && (m.d_ff % unit != 0 || m.d_ff / unit < 4 * ranks))
        unit /= 2;
    const double column_work = 3.0 * m.d_model;
    const double all = attention_work(m, m.n_heads, m.n_kv_heads) + column_work * m.d_ff;

    std::vector<std::int64_t> borders(std::size_t(ranks) + 1, 0);
    double ideal = 0;
    for (int r = 0; r < ranks; ++r) {
        const Shard heads = heads_of(m, ranks, r);
        ideal +=
            std::max(all / ranks - attention_work(m, heads.n_q(), heads.n_kv()), 0.0) / column_work;
        borders[std::size_t(r) + 1] = std::int64_t(std::llround(ideal / double(unit))) * unit;
    }
    // Where attention alone exceeds a rank's share the ideal columns add up to more than there are.
    const double stretch = m.d_ff / std::max(ideal, 1.0);
    for (int r = 1; r <= ranks; ++r) {
        auto& b = borders[std::size_t(r)];
        b = std::int64_t(std::llround(double(b) * stretch / double(unit))) * unit;
        b = std::clamp(b, borders[std::size_t(r) - 1] + unit, m.d_ff - unit * (ranks - r));
    }
    borders.back() = m.d_ff;
    return borders;
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
    const auto ff = ff_borders(model, ranks);
    s.ff = {ff[std::size_t(rank)], ff[std::size_t(rank) + 1]};
    s.vocab = even_run(model.vocab, ranks, rank);
    return s;
}

}  // namespace cake
