#include "policy/cascade.h"

#include <algorithm>
#include <random>

namespace cake {

Cascade::Cascade(const Policy& policy, int n_layers, int n_tokens)
    : policy_(policy),
      n_layers_(n_layers),
      evicts_(policy.evicts(n_tokens)),
      window_(evicts_ ? policy.window : n_tokens),
      total_{std::int64_t(policy.prefix_budget()) * n_layers, n_tokens - window_} {
    if (evicts_ && policy.share != Share::Preference)
        known_ = share_final(known_shares(), total_);
}

std::vector<double> Cascade::known_shares() const {
    if (policy_.share == Share::Pyramid)
        return pyramid_shares(n_layers_, total_);
    std::vector<double> shares(std::size_t(n_layers_), 1.0);
    std::mt19937_64 random(policy_.seed);
    if (policy_.share == Share::Random)
        for (double& share : shares)
            share = double((random() >> 11) + 1) * 0x1p-53;
    return shares;
}

void Cascade::add(double preference) {
    CAKE_CHECK(int(kept_.size()) < n_layers_, "layer {} of {}", kept_.size(), n_layers_);
    CAKE_CHECK(preference >= 0, "the preference of layer {} is {}", kept_.size(), preference);
    preference_.push_back(preference);
    kept_.push_back(total_.cap);
    budget_.push_back(policy_.prefix_budget());
    const bool last = int(kept_.size()) == n_layers_;
    if (!evicts_ || (!policy_.cascade && !last))
        return;
    budget_ = stage_budgets();
    for (std::size_t l = 0; l < kept_.size(); ++l)  // an evicted token cannot come back
        kept_[l] = std::min(kept_[l], budget_[l]);
}

std::vector<int> Cascade::stage_budgets() const {
    const bool last = int(kept_.size()) == n_layers_;
    if (!known_.empty())
        return {known_.begin(), known_.begin() + std::ptrdiff_t(kept_.size())};
    if (policy_.rounding == Rounding::Exact)
        return last ? share_final(preference_, total_, kept_) : share_stage(preference_, total_);
    std::vector<int> b =
        adjust_budgets_official(real_budgets_official(preference_, total_.total), total_);
    for (int& x : b)
        x = std::clamp(x, 0, total_.cap);
    return b;
}

}  // namespace cake
