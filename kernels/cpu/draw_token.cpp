#include "kernels/cpu/draw_token.h"

#include <algorithm>

namespace cake {
namespace {

bool better(const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score > b.score : a.id < b.id;
}

// Candidates best first, sorted no further than they are asked for: a vocabulary has 100,000 tokens, and few hold most of the
// probability.
class BestFirst {
public:
    explicit BestFirst(std::vector<Candidate>& candidates) : candidates_(candidates) {}

    const Candidate& operator[](std::size_t i) {
        for (; i >= sorted_; step_ *= 8) {
            const auto begin = candidates_.begin() + std::ptrdiff_t(sorted_);
            sorted_ = std::min(sorted_ + step_, candidates_.size());
            const auto end = candidates_.begin() + std::ptrdiff_t(sorted_);
            std::nth_element(begin, end, candidates_.end(), better);
            std::sort(begin, end, better);
        }
        return candidates_[i];
    }

private:
    std::vector<Candidate>& candidates_;
    std::size_t sorted_ = 0, step_ = 64;
};

void keep_top_k(std::vector<Candidate>& candidates, double top_k) {
    if (top_k <= 0 || top_k >= double(candidates.size()))
        return;
    const auto k = std::ptrdiff_t(top_k);
    std::nth_element(candidates.begin(), candidates.begin() + k, candidates.end(), better);
    candidates.resize(std::size_t(k));
}

// Temperature changes no order, so top-k may come first.
void weigh(std::vector<Candidate>& candidates, double temperature) {
    const double best = std::min_element(candidates.begin(), candidates.end(), better)->score;
    for (Candidate& c : candidates)
        c.weight = std::exp(below(best, c.score) / temperature);
}

double sum_of(const std::vector<Candidate>& candidates) {
    double sum = 0;
    for (const Candidate& c : candidates)
        sum += c.weight;
    return sum;
}

}  // namespace

TokenId draw_token(std::vector<Candidate>& candidates, const Draw& draw) {
    if (draw.temperature <= 0)
        return std::min_element(candidates.begin(), candidates.end(), better)->id;
    keep_top_k(candidates, draw.top_k);
    weigh(candidates, draw.temperature);
    BestFirst ranked(candidates);
    if (draw.top_p < 1) {
        const double enough = draw.top_p * sum_of(candidates);
        double reached = 0;
        std::size_t kept = 0;
        while (kept < candidates.size() && (kept == 0 || reached < enough))
            reached += ranked[kept++].weight;
        candidates.resize(kept);
    }
    // Takes the last ones, so what is sorted remains so.
    std::erase_if(candidates, [&](const Candidate& c) { return c.weight < draw.min_p; });

    double mark = draw.random * sum_of(candidates);
    TokenId last = ranked[0].id;
    for (std::size_t i = 0; i < candidates.size() && ranked[i].weight > 0; ++i) {
        last = ranked[i].id;
        if ((mark -= ranked[i].weight) < 0)
            break;
    }
    return last;  // rounding may leave a rest of the mark: then the last one that is possible
}

}  // namespace cake
