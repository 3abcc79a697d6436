#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace cake {

TokenId Sampler::sample(std::span<const float> logits) {
    const auto best = std::max_element(logits.begin(), logits.end());
    if (sampling_.temperature <= 0)
        return TokenId(best - logits.begin());

    std::vector<TokenId> ids(logits.size());
    std::iota(ids.begin(), ids.end(), 0);
    std::vector<double> weight(logits.size());
    double sum = 0;
    for (std::size_t i = 0; i < weight.size(); ++i)
        sum += weight[i] = std::exp((double(logits[i]) - double(*best)) / sampling_.temperature);
    if (sampling_.top_p < 1) {
        std::stable_sort(ids.begin(), ids.end(), [&](TokenId a, TokenId b) {
            return weight[std::size_t(a)] > weight[std::size_t(b)];
        });
        double reached = 0;
        std::size_t n = 0;
        while (n < ids.size() && reached < sampling_.top_p * sum)
            reached += weight[std::size_t(ids[n++])];
        ids.resize(std::max<std::size_t>(n, 1));
        sum = reached;
    }
    // 53 random bits: the same on every standard library, unlike std::uniform_real_distribution.
    double mark = double(random_() >> 11) * 0x1p-53 * sum;
    for (TokenId id : ids)
        if ((mark -= weight[std::size_t(id)]) < 0)
            return id;
    return ids.back();
}

}  // namespace cake
