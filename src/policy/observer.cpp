#include "policy/observer.h"

#include <algorithm>
#include <cmath>

namespace cake {

Observer::Observer(const Rank& rank, const ModelConfig& model, int n_tokens, Workspace& ws,
                   const Watch& watch)
    : rank_(rank), model_heads_(model.n_heads), n_tokens_(n_tokens), ws_(ws), watch_(watch) {
    if (watch_.columns)
        rank_.dev.fill_zero(rank_.stream, ws_.column_sums);
}

void Observer::see(View q, const LayerKv& kv, int first) {
    const std::int64_t w = std::min(ws_.size.window, n_tokens_);
    const std::int64_t window_begin = n_tokens_ - w;
    const std::int64_t begin = std::max<std::int64_t>(window_begin, first);
    const std::int64_t end = first + q.dim(0);
    if (begin < end)
        rank_.dev.copy(rank_.stream, ws_.q_window.view().rows(begin - window_begin, end - begin),
                       q.rows(begin - first, end - begin));
    if (watch_.columns) {
        auto t = rank_.time(Phase::Observe);
        rank_.dev.column_sums(rank_.stream, q, kv.k, first,
                              ws_.column_sums.view().reshaped({q.dim(1), n_tokens_}));
    }
}

void Observer::observe(const Policy& policy, const LayerKv& kv) {
    const std::tuple wanted{policy.window, policy.stats, watch_.share ? nullptr : &policy};
    if (observed_ == wanted)
        return;
    auto t = rank_.time(Phase::Observe);
    const std::int64_t w = policy.window, n_q = ws_.q.shape()[1], n = n_tokens_ - w;
    const std::int64_t held = std::min(ws_.size.window, n_tokens_);
    rank_.dev.window_moments(rank_.stream, ws_.q_window.view().rows(held - w, w), kv.k, n_tokens_,
                             policy.stats, ws_.mean.view().reshaped({n_q, n}),
                             ws_.variance.view().reshaped({n_q, n}), ws_.sums);
    observed_ = wanted;
}

std::optional<LayerPreference> Observer::preference(const Policy& policy, const LayerKv& kv) {
    if (!sees_something(policy))
        return {};
    observe(policy, kv);
    double sums[2];
    rank_.dev.copy(rank_.stream, View(sums, DType::F64, {2}), ws_.sums);
    rank_.wait();
    {
        auto t = rank_.time(Phase::AllReduce);
        rank_.comm.sum(sums);
    }
    const double H = std::max(sums[0], 0.0), V = std::max(sums[1], 0.0);
    return LayerPreference{H, V, std::pow(H, 1 / policy.tau1) * std::pow(V, 1 / policy.tau2)};
}

View Observer::scores(const Policy& policy, const LayerKv& kv) {
    const std::int64_t n_kv = kv.k.dim(0), n = n_tokens_ - policy.window;
    if (!policy.evicts(n_tokens_))
        return ws_.scores.view().reshaped({n_kv, 0});
    View score = ws_.scores.view().reshaped({n_kv, n});
    if (policy.observe == Observe::Window) {
        window_scores(policy, kv, score);
    } else if (policy.observe == Observe::All) {
        View columns = summed_columns().reshaped({n_kv * n_tokens_});
        for (std::int64_t g = 0; g < n_kv; ++g)
            rank_.dev.copy(rank_.stream, score.row(g).reshaped({n}),
                           columns.rows(g * n_tokens_, n));
    } else {  // all alike: ties keep the lowest positions
        rank_.dev.fill_zero(rank_.stream, score);
    }
    return score;
}

View Observer::running(const Policy& policy) {
    return policy.accumulates() ? summed_columns() : View();
}

void Observer::window_scores(const Policy& policy, const LayerKv& kv, View score) {
    observe(policy, kv);
    const Shape shape{ws_.q.shape()[1], score.dim(1)};
    View per_head = ws_.head_scores.view().reshaped(shape);
    {
        auto t = rank_.time(Phase::Observe);
        rank_.dev.column_scores(rank_.stream, ws_.mean.view().reshaped(shape),
                                ws_.variance.view().reshaped(shape), policy.score,
                                float(policy.gamma), policy.pool, per_head);
    }
    if (policy.heads == Heads::All)
        mean_over_all(per_head, score);
    else
        mean_over_group(per_head, score);
}

// Once a layer, whichever policies ask.
View Observer::summed_columns() {
    const std::int64_t n_q = ws_.q.shape()[1], n_kv = ws_.running.shape()[0];
    View running = ws_.running.view().reshaped({n_kv, n_tokens_});
    if (!summed_)
        mean_over_group(ws_.column_sums.view().reshaped({n_q, n_tokens_}), running);
    summed_ = true;
    return running;
}

void Observer::mean_over_group(View per_head, View score) {
    auto t = rank_.time(Phase::Observe);
    View group = whole_group(per_head);
    rank_.dev.group_mean(rank_.stream, group, float(group.dim(0) / score.dim(0)), score);
}

// Every query head lives on exactly one rank, so the sum over ranks of each one's part of the mean is the mean, and all KV
// heads of all ranks get the same scores.
void Observer::mean_over_all(View per_head, View score) {
    View mean = score.row(0);
    {
        auto t = rank_.time(Phase::Observe);
        rank_.dev.group_mean(rank_.stream, per_head, float(model_heads_), mean);
    }
    {
        auto t = rank_.time(Phase::AllReduce);
        rank_.comm.all_reduce_sum(rank_.stream, mean);
    }
    for (std::int64_t g = 1; g < score.dim(0); ++g)
        rank_.dev.copy(rank_.stream, score.row(g), mean);
}

// Where ranks share a KV head, the rows of all its query heads, in head order: the sum over the group is then made of
// the same numbers in the same order as on one rank.
View Observer::whole_group(View per_head) {
    if (!rank_.sharers)
        return per_head;
    const std::int64_t group = ws_.group_scores.shape()[0], n = per_head.dim(1);
    View all = ws_.group_scores.view().reshaped({group, n});
    std::vector<std::int64_t> parts;
    for (int i = 0; i < rank_.sharers->size(); ++i)
        parts.push_back(even_run(group, rank_.sharers->size(), i).size() * n);
    rank_.sharers->all_gather(rank_.stream, per_head.reshaped({per_head.elements()}), parts,
                              all.reshaped({all.elements()}));
    return all;
}

}  // namespace cake
