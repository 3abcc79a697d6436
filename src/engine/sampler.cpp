#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace cake {
namespace {

double score_of(float logit) {
    return std::isnan(logit) ? -std::numeric_limits<double>::infinity() : double(logit);
}

// What most runs do at every token, in one pass.
TokenId best_of(std::span<const float> logits) {
    std::size_t best = 0;
    float score = -std::numeric_limits<float>::infinity();
    for (std::size_t i = 0; i < logits.size(); ++i)
        if (logits[i] > score)  // never of what is no number
            score = logits[best = i];
    return TokenId(best);
}

// score - best, where both may be the same infinity.
double below(double best, double score) { return score == best ? 0 : score - best; }

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
    if (sampling_.temperature <= 0)
        return std::min_element(candidates_.begin(), candidates_.end(), better)->id;
    keep_top_k();
    weigh();
    keep_top_p();
    keep_min_p();
    return draw();
}

bool Sampler::better(const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score > b.score : a.id < b.id;
}

void Sampler::keep_top_k() {
    const auto k = std::size_t(std::max(sampling_.top_k, 0));
    if (k == 0 || k >= candidates_.size())
        return;
    std::partial_sort(candidates_.begin(), candidates_.begin() + std::ptrdiff_t(k),
                      candidates_.end(), better);
    candidates_.resize(k);
}

// Logits become probabilities as parts of the likeliest. Temperature changes no order, so top-k may come first.
void Sampler::weigh() {
    const double best = std::min_element(candidates_.begin(), candidates_.end(), better)->score;
    for (Candidate& c : candidates_)
        c.score = std::exp(below(best, c.score) / sampling_.temperature);
}

void Sampler::keep_top_p() {
    if (sampling_.top_p >= 1)
        return;
    double sum = 0;
    for (const Candidate& c : candidates_)
        sum += c.score;
    // A vocabulary has 100,000 tokens and the set is mostly small, so no more is sorted than is needed.
    double reached = 0;
    std::size_t kept = 0, sorted = 0;
    for (std::size_t step = 64; kept == sorted && kept < candidates_.size(); step *= 8) {
        const auto begin = candidates_.begin() + std::ptrdiff_t(sorted);
        sorted = std::min(sorted + step, candidates_.size());
        const auto end = candidates_.begin() + std::ptrdiff_t(sorted);
        std::nth_element(begin, end, candidates_.end(), better);
        std::sort(begin, end, better);
        while (kept < sorted && (kept == 0 || reached < sampling_.top_p * sum))
            reached += candidates_[kept++].score;
    }
    candidates_.resize(kept);
}

void Sampler::keep_min_p() {
    std::erase_if(candidates_, [&](const Candidate& c) { return c.score < sampling_.min_p; });
}

TokenId Sampler::draw() {
    double sum = 0;
    for (const Candidate& c : candidates_)
        sum += c.score;
    // 53 random bits: the same on every standard library, unlike std::uniform_real_distribution.
    double mark = double(random_() >> 11) * 0x1p-53 * sum;
    TokenId last = candidates_.front().id;
    for (const Candidate& c : candidates_) {
        if (c.score == 0)
            continue;
        last = c.id;
        if ((mark -= c.score) < 0)
            break;
    }
    return last;  // rounding may leave a rest of the mark: then the last one that is possible
}

}  // namespace cake
