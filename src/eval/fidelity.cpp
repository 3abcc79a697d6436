#include "eval/fidelity.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "engine/request_report.h"

namespace cake {

std::size_t Distribution::best() const {
    return std::size_t(std::max_element(log_p.begin(), log_p.end()) - log_p.begin());
}

Distribution softmax(std::span<const float> logits) {
    float most = -INFINITY;
    for (const float x : logits) {
        if (std::isnan(x))
            throw Error("a logit is not a number: are the model's weights whole?");
        most = std::max(most, x);
    }
    if (!std::isfinite(most))
        throw Error("the largest logit is not finite: are the model's weights whole?");
    Distribution out;
    out.p.reserve(logits.size());
    out.log_p.reserve(logits.size());
    double sum = 0;
    for (const float x : logits) {
        out.log_p.push_back(double(x) - most);
        out.p.push_back(std::exp(out.log_p.back()));
        sum += out.p.back();
    }
    const double log_sum = std::log(sum);
    for (double& p : out.p)
        p /= sum;
    for (double& log_p : out.log_p)
        log_p -= log_sum;
    return out;
}

double kl_divergence(const Distribution& of, const Distribution& by) {
    CAKE_CHECK(of.p.size() == by.p.size(), "{} tokens and {}", of.p.size(), by.p.size());
    double sum = 0;
    for (std::size_t i = 0; i < of.p.size(); ++i)
        if (of.p[i] > 0)
            sum += of.p[i] * (of.log_p[i] - by.log_p[i]);
    return std::max(sum, 0.0);
}

double mean(std::span<const double> values) {
    return values.empty()
               ? 0
               : std::accumulate(values.begin(), values.end(), 0.0) / double(values.size());
}

double perplexity(std::span<const double> nll) { return std::exp(mean(nll)); }

double relative_error(double squared_difference, double squared_full) {
    return squared_difference == 0 ? 0 : std::sqrt(squared_difference / squared_full);
}

double PolicyFidelity::kl_p99() const { return kl.empty() ? 0 : percentile(kl, 0.99); }

double PolicyFidelity::top1_agreement() const {
    return mean(std::vector<double>(agrees.begin(), agrees.end()));
}

double PolicyFidelity::attention_error() const {
    std::vector<double> errors;
    for (const LayerFidelity& layer : layers)
        errors.push_back(layer.attention_error);
    return mean(errors);
}

}  // namespace cake
