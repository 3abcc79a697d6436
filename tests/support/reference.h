// The paper in double precision and its own symbols, by plain loops: what the kernels of observing, selecting and
// decoding are judged by. S prompt tokens, w window rows, n_q and n_kv query and KV heads, d = d_head, b budget.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <span>
#include <vector>

namespace cake::reference {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

// a_j = e^(s_j) / sum e^(s_j) with s_j = q . k_j / sqrt(d) of one query over keys 0 .. n.
inline Row attention_row(const float* q, const float* k, std::size_t n, std::size_t d) {
    Row a(n);
    for (std::size_t j = 0; j < n; ++j) {
        for (std::size_t c = 0; c < d; ++c)
            a[j] += double(q[c]) * double(k[j * d + c]);
        a[j] /= std::sqrt(double(d));
    }
    const double max = *std::max_element(a.begin(), a.end());
    double sum = 0;
    for (double& x : a)
        sum += x = std::exp(x - max);
    for (double& x : a)
        x /= sum;
    return a;
}

// A[h][i][n]: attention of the window's queries over all keys, causal inside the last w columns (zeros there).
// q: [w, n_q, d]; k: [n_kv, capacity, d], of which S rows count.
inline std::vector<Rows> window_attention(std::span<const float> q, std::span<const float> k,
                                          std::size_t S, std::size_t w, std::size_t n_q,
                                          std::size_t n_kv, std::size_t d) {
    const std::size_t capacity = k.size() / (n_kv * d);
    std::vector<Rows> A(n_q);
    for (std::size_t h = 0; h < n_q; ++h)
        for (std::size_t i = 0; i < w; ++i) {
            const float* keys = k.data() + h / (n_q / n_kv) * capacity * d;
            Row a = attention_row(q.data() + (i * n_q + h) * d, keys, S - w + i + 1, d);
            a.resize(S);
            A[h].push_back(std::move(a));
        }
    return A;
}

// Sum over i of A[h, i, j], the causal attention of all S queries, for each query head h and key j: [n_q][S].
// q: [S, n_q, d]; k: [n_kv, capacity, d].
inline Rows column_sums(std::span<const float> q, std::span<const float> k, std::size_t S,
                        std::size_t n_q, std::size_t n_kv, std::size_t d) {
    const std::size_t capacity = k.size() / (n_kv * d);
    Rows sums(n_q, Row(S));
    for (std::size_t h = 0; h < n_q; ++h)
        for (std::size_t i = 0; i < S; ++i) {
            const float* keys = k.data() + h / (n_q / n_kv) * capacity * d;
            const Row a = attention_row(q.data() + (i * n_q + h) * d, keys, i + 1, d);
            for (std::size_t j = 0; j <= i; ++j)
                sums[h][j] += a[j];
        }
    return sums;
}

struct Moments {
    Rows mean, variance;  // [n_q][S - w]: Mean_i and unbiased Var_i of A[h, i, n]
    double H = 0;         // - sum over h, i, n < S - w of A ln(A + 1e-10)
    double V = 0;         // sum over h, n < S - w of Var_i
};

// `rounded` is applied to each probability first.
inline Moments moments(const std::vector<Rows>& A,
                       const std::function<double(double)>& rounded = nullptr) {
    Moments out;
    for (const Rows& a : A) {
        const std::size_t w = a.size(), columns = a[0].size() - w;
        Row mean(columns), variance(columns);
        for (std::size_t n = 0; n < columns; ++n) {
            Row column;
            for (const Row& row : a)
                column.push_back(rounded ? rounded(row[n]) : row[n]);
            mean[n] = std::accumulate(column.begin(), column.end(), 0.0) / double(w);
            for (double x : column) {
                if (w > 1)
                    variance[n] += (x - mean[n]) * (x - mean[n]) / double(w - 1);
                // The official code adds 1e-10 in float32: it matters where A is below 1e-9.
                out.H -= x * std::log(double(float(x) + 1e-10f));
            }
            out.V += variance[n];
        }
        out.mean.push_back(std::move(mean));
        out.variance.push_back(std::move(variance));
    }
    return out;
}

// P = H^(1/tau1) V^(1/tau2)
inline double preference(double H, double V, double tau1, double tau2) {
    return std::pow(H, 1 / tau1) * std::pow(V, 1 / tau2);
}

// Mean over `pool` neighbours, zeros outside counted.
inline Row pooled(const Row& x, int pool) {
    const auto n = std::ptrdiff_t(x.size()), r = std::ptrdiff_t(pool - 1) / 2;
    Row out(x.size());
    for (std::ptrdiff_t i = 0; i < n; ++i)
        for (std::ptrdiff_t j = std::max<std::ptrdiff_t>(0, i - r); j <= std::min(n - 1, i + r);
             ++j)
            out[std::size_t(i)] += x[std::size_t(j)] / pool;
    return out;
}

// Mean over the query heads of each KV head.
inline Rows group_mean(const Rows& x, std::size_t n_kv) {
    const std::size_t group = x.size() / n_kv;
    Rows out(n_kv, Row(x[0].size()));
    for (std::size_t h = 0; h < x.size(); ++h)
        for (std::size_t n = 0; n < x[h].size(); ++n)
            out[h / group][n] += x[h][n] / double(group);
    return out;
}

// I[h, n] = Mean_i A + gamma Var_i A, pooled over n, averaged over the group: [n_kv][S - w].
inline Rows indicator(const Moments& m, double gamma, int pool, std::size_t n_kv) {
    Rows I = m.mean;
    for (std::size_t h = 0; h < I.size(); ++h) {
        for (std::size_t n = 0; n < I[h].size(); ++n)
            I[h][n] += gamma * m.variance[h][n];
        I[h] = pooled(I[h], pool);
    }
    return group_mean(I, n_kv);
}

// Indices of the k largest, best first, ties to the lower one.
template <typename T>
std::vector<std::int32_t> top_order(const std::vector<T>& score, std::size_t k) {
    std::vector<std::int32_t> index(score.size());
    std::iota(index.begin(), index.end(), 0);
    std::stable_sort(index.begin(), index.end(), [&](std::int32_t a, std::int32_t b) {
        return score[std::size_t(a)] > score[std::size_t(b)];
    });
    index.resize(k);
    return index;
}

// The part of [0, 1) that is a token's.
struct TokenShare {
    std::int32_t token;
    double begin, end;
};

// What temperature, then top-k (0: all), top-p and min-p leave of the tokens, best first, as Hugging Face's `generate` filters:
// probabilities are made anew after each. Logits are finite, top_p > 0.
inline std::vector<TokenShare> token_shares(std::span<const float> logits, double temperature,
                                            double top_k, double top_p, double min_p) {
    const std::vector<float> score(logits.begin(), logits.end());
    const auto order = top_order(score, score.size());
    Row p;
    for (const std::int32_t token : order)
        p.push_back(
            std::exp((double(score[std::size_t(token)]) - double(score[std::size_t(order[0])])) /
                     temperature));
    const auto normalise = [&] {
        const double sum = std::accumulate(p.begin(), p.end(), 0.0);
        for (double& x : p)
            x /= sum;
    };
    if (top_k > 0)
        p.resize(std::min(p.size(), std::size_t(top_k)));
    normalise();
    if (top_p < 1) {
        std::size_t n = 0;
        for (double sum = 0; n < p.size() && sum < top_p; ++n)
            sum += p[n];
        p.resize(n);
        normalise();
    }
    std::erase_if(p, [best = p[0], min_p](double x) { return x < min_p * best; });
    normalise();
    std::vector<TokenShare> out;
    double begin = 0;
    for (std::size_t i = 0; i < p.size(); ++i, begin = out.back().end)
        out.push_back({order[i], begin, begin + p[i]});
    return out;
}

// Scores of the candidates of each KV head, from the probability rows of its query heads in the order of its list:
// all entries but the last w, pooled, averaged. rows: [n_q][length]. Returns [n_kv][length - w].
inline Rows decode_scores(Rows rows, std::size_t w, int pool, std::size_t n_kv) {
    for (Row& row : rows) {
        row.resize(row.size() - w);
        row = pooled(row, pool);
    }
    return group_mean(rows, n_kv);
}

// The entries that stay, as indices into the list: the b best candidates (list order if `keep_order`, else best first),
// then the w last entries. score: [length - w].
template <typename T>
std::vector<std::int32_t> decode_evict(const std::vector<T>& score, std::size_t b, std::size_t w,
                                       bool keep_order) {
    std::vector<std::int32_t> kept = top_order(score, b);
    if (keep_order)
        std::sort(kept.begin(), kept.end());
    for (std::size_t i = 0; i < w; ++i)
        kept.push_back(std::int32_t(score.size() + i));
    return kept;
}

}  // namespace cake::reference
