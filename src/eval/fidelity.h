// How far a policy's predictions are from those of the full cache, position by position: the numbers.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace cake {

// softmax(logits), and its logarithm, in double.
struct Distribution {
    std::vector<double> p, log_p;

    // The first of the likeliest.
    std::size_t best() const;
};
// Error where a logit is not a number, or none is finite.
Distribution softmax(std::span<const float> logits);

// KL(of || by) = sum of p (ln p - ln q), nats: what is lost where `by` stands for `of`. 0 or more: where rounding makes it
// less, 0.
double kl_divergence(const Distribution& of, const Distribution& by);

// exp of the mean of negative log-likelihoods, nats.
double perplexity(std::span<const double> nll);

double mean(std::span<const double> values);

// |o - full|_2 / |full|_2 of sums of squares; 0 where nothing differs.
double relative_error(double squared_difference, double squared_full);

// One layer of a policy on a text.
struct LayerFidelity {
    int budget = 0;  // prefix tokens after prefill; all, where nothing was evicted
    int kept = 0;    // the window included
    // Relative error of the layer's attention output, before the output projection, over all heads; mean over positions.
    // What goes into the layer is what comes there in the policy's own run, so it holds what earlier layers got wrong.
    double attention_error = 0;
};

// One policy on a text. Vectors are by position: the first is that of the first step after the cut.
struct PolicyFidelity {
    std::string policy;            // as it was listed
    int cache_size = 0;            // tokens; 0: no limit
    double kept_percent = 0;       // of the prompt's tokens and layers, after prefill
    std::vector<double> kl = {};   // nats
    std::vector<int> agrees = {};  // 1: the likeliest token is that of the full cache
    std::vector<double> nll = {};  // of the text's next token, nats
    std::vector<LayerFidelity> layers = {};

    double kl_p99() const;
    double top1_agreement() const;   // part of 1
    double attention_error() const;  // mean over layers
};

// A text of which `prompt_tokens` passed in prefill; the full cache is the first of the policies.
struct TextFidelity {
    std::string text;  // its file's name
    int prompt_tokens = 0;
    std::vector<PolicyFidelity> policies = {};

    const PolicyFidelity& full() const { return policies.front(); }
};

}  // namespace cake
