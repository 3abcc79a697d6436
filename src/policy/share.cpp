#include "policy/share.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace cake {
namespace {

// A budget that lies within rounding of a whole number is that number, so that stages and the final deal round alike.
double snapped(double x) {
    const double whole = std::round(x);
    return std::abs(x - whole) <= 1e-9 * std::max(1.0, whole) ? whole : x;
}

// Layers by descending preference, ties to the lower layer.
std::vector<std::size_t> by_preference(std::span<const double> preference) {
    std::vector<std::size_t> order(preference.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](auto a, auto b) { return preference[a] > preference[b]; });
    return order;
}

}  // namespace

std::vector<double> water_fill(std::span<const double> preference, const ShareTotal& t) {
    const double cap = t.cap;
    std::vector<double> budget(preference.size(), 0);
    double left = double(t.total);
    double sum = std::accumulate(preference.begin(), preference.end(), 0.0);

    // The most preferred layers reach the cap first. Once one stays below it, so do all after it.
    std::size_t i = 0;
    const auto order = by_preference(preference);
    for (; i < order.size() && preference[order[i]] > 0; ++i) {
        const double p = preference[order[i]];
        if (left * p < cap * sum)
            break;
        budget[order[i]] = cap;
        left = std::max(left - cap, 0.0);
        sum = 0;  // of the layers behind i, added up anew: subtraction would leave rounding behind
        for (std::size_t k = i + 1; k < order.size(); ++k)
            sum += preference[order[k]];
    }
    const double lambda = sum > 0 ? left / sum : 0;
    for (; i < order.size() && preference[order[i]] > 0; ++i) {
        budget[order[i]] = std::min(cap, lambda * preference[order[i]]);
        if (i + 1 == order.size() || preference[order[i + 1]] <= 0)
            left = 0;
    }
    const std::size_t zeros = order.size() - i;  // P = 0
    for (std::size_t k = i; k < order.size(); ++k)
        budget[order[k]] = std::min(cap, left / double(zeros));
    return budget;
}

std::vector<double> pyramid_shares(int n_layers, const ShareTotal& t) {
    constexpr double beta = 20;  // the authors' steepness
    const double mean = double(t.total) / n_layers;
    const double max = std::min(2 * mean - mean / beta, std::max(double(t.cap), mean));
    const double min = 2 * mean - max;
    std::vector<double> out;
    for (int l = 0; l < n_layers; ++l)
        out.push_back(n_layers == 1 ? mean : max - (max - min) * l / (n_layers - 1));
    return out;
}

std::vector<int> share_stage(std::span<const double> preference, const ShareTotal& t) {
    std::vector<int> out;
    for (double b : water_fill(preference, t))
        out.push_back(int(std::ceil(snapped(b))));
    return out;
}

std::vector<int> share_final(std::span<const double> preference, const ShareTotal& t,
                             std::span<const int> at_most) {
    const std::vector<double> real = water_fill(preference, t);
    std::vector<int> limit(real.size(), t.cap);
    if (!at_most.empty())
        std::copy(at_most.begin(), at_most.end(), limit.begin());

    std::vector<int> budget(real.size());
    std::vector<double> remainder(real.size());
    std::int64_t left = std::min(t.total, std::int64_t(real.size()) * t.cap);
    for (std::size_t l = 0; l < real.size(); ++l) {
        const double b = snapped(real[l]);
        budget[l] = std::min(int(std::floor(b)), limit[l]);
        remainder[l] = b - budget[l];
        left -= budget[l];
    }
    const auto order = by_preference(remainder);
    while (left > 0) {  // one round, but for rounding at the limits
        const std::int64_t before = left;
        for (std::size_t l : order) {
            if (left > 0 && budget[l] < limit[l]) {
                ++budget[l];
                --left;
            }
        }
        if (left == before)
            break;
    }
    return budget;
}

namespace {
float as_float(double p) { return float(std::min(p, double(std::numeric_limits<float>::max()))); }
}  // namespace

std::vector<double> real_budgets_official(std::span<const double> preference, std::int64_t total) {
    double sum = 0;
    for (double p : preference)
        sum += double(as_float(p));
    std::vector<double> out;
    for (double p : preference)  // all zero, where the official code divides by zero: evenly
        out.push_back(sum > 0 ? double(as_float(p)) / sum * double(total)
                              : double(total) / double(preference.size()));
    return out;
}

std::vector<int> adjust_budgets_official(std::span<const double> real, const ShareTotal& t) {
    std::vector<std::int64_t> b;
    for (double r : real)
        b.push_back(std::int64_t(r));  // towards zero

    // An equal whole share to each layer that `takes`, the remainder one each to the lowest of them.
    auto spread = [&b](std::int64_t amount, int sign, auto takes) {
        std::vector<std::size_t> layers;
        for (std::size_t l = 0; l < b.size(); ++l)
            if (takes(b[l]))
                layers.push_back(l);
        if (layers.empty())
            return;
        const auto n = std::int64_t(layers.size());
        for (std::int64_t i = 0; i < n; ++i)
            b[layers[std::size_t(i)]] += sign * (amount / n + (i < amount % n ? 1 : 0));
    };
    const auto below_cap = [&t](std::int64_t x) { return x < t.cap; };

    std::int64_t excess = 0;
    for (auto& x : b) {
        excess += std::max<std::int64_t>(x - t.cap, 0);
        x = std::min<std::int64_t>(x, t.cap);
    }
    if (excess > 0)
        spread(excess, +1, below_cap);
    const std::int64_t difference = t.total - std::accumulate(b.begin(), b.end(), std::int64_t(0));
    if (difference > 0)
        spread(difference, +1, below_cap);
    else if (difference < 0)
        spread(-difference, -1, [](std::int64_t x) { return x > 1; });
    return {b.begin(), b.end()};
}

}  // namespace cake
