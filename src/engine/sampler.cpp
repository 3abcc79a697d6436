#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace cake {
namespace {

// What most runs do at every token, in one pass.
TokenId best_of(std::span<const float> logits) {
    std::size_t best = 0;
    float score = -std::numeric_limits<float>::infinity();
    for (std::size_t i = 0; i < logits.size(); ++i)
        if (logits[i] > score)  // never of what is no number
            score = logits[best = i];
    return TokenId(best);
}

TokenLogprobs log_softmax(std::span<const float> logits, TokenId chosen, int n_top) {
    std::vector<TokenLogprobs::Entry> all;
    all.reserve(logits.size());
    double best = -std::numeric_limits<double>::infinity();
    for (float logit : logits) {
        all.push_back({TokenId(all.size()), score_of(logit)});
        best = std::max(best, all.back().logprob);
    }
    double sum = 0;
    for (auto& entry : all)
        sum += std::exp(entry.logprob = below(best, entry.logprob));
    const double log_sum = std::log(sum);
    for (auto& entry : all)
        entry.logprob -= log_sum;

    TokenLogprobs out;
    out.chosen = all[std::size_t(chosen)];
    const auto n = std::min(std::size_t(std::max(n_top, 0)), all.size());
    std::partial_sort(all.begin(), all.begin() + std::ptrdiff_t(n), all.end(),
                      [](const auto& a, const auto& b) {
                          return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
                      });
    out.top.assign(all.begin(), all.begin() + std::ptrdiff_t(n));
    return out;
}

}  // namespace

nlohmann::json to_json(const TokenLogprobs& logprobs) {
    nlohmann::json top = nlohmann::json::array();
    for (const auto& entry : logprobs.top)
        top.push_back({entry.token, entry.logprob});
    return {{"token", logprobs.chosen.token}, {"logprob", logprobs.chosen.logprob}, {"top", top}};
}

Sampling sampling_of(const RunConfig& config) {
    const auto& g = config.generation;
    return {.temperature = g.temperature,
            .top_p = g.top_p,
            .seed = std::uint64_t(g.seed),
            .top_k = g.top_k,
            .min_p = g.min_p,
            .repetition_penalty = g.repetition_penalty,
            .logprobs = g.logprobs};
}

void Sampler::seen(std::span<const TokenId> tokens) {
    if (sampling_.repetition_penalty != 1)
        seen_.insert(tokens.begin(), tokens.end());
}

TokenId Sampler::sample(std::span<const float> logits) {
    CAKE_CHECK(!logits.empty(), "no logits");
    const TokenId token =
        sampling_.temperature <= 0 && seen_.empty() ? best_of(logits) : choose(logits);
    seen(std::span(&token, 1));
    if (sampling_.logprobs > 0)
        logprobs_ = log_softmax(logits, token, sampling_.logprobs);
    return token;
}

TokenId Sampler::choose(std::span<const float> logits) {
    candidates_.clear();
    for (float logit : logits)
        candidates_.push_back({score_of(logit), TokenId(candidates_.size())});
    for (TokenId id : seen_) {
        if (id < 0 || std::size_t(id) >= candidates_.size())
            continue;
        double& score = candidates_[std::size_t(id)].score;
        score =
            score > 0 ? score / sampling_.repetition_penalty : score * sampling_.repetition_penalty;
    }
    return draw_token(candidates_, next_draw());
}

Draw Sampler::next_draw() {
    Draw draw{.temperature = sampling_.temperature,
              .top_k = double(sampling_.top_k),
              .top_p = sampling_.top_p,
              .min_p = sampling_.min_p};
    // 53 random bits: the same on every standard library, unlike std::uniform_real_distribution.
    if (draw.temperature > 0)
        draw.random = double(random_() >> 11) * 0x1p-53;
    return draw;
}

}  // namespace cake
