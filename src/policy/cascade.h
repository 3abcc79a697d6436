// The cake is cut again each time a layer has been seen: layers seen so far share the same total.
#pragma once

#include <span>
#include <vector>

#include "policy/policy.h"
#include "policy/share.h"

namespace cake {

class Cascade {
public:
    // For a prompt of n_tokens.
    Cascade(const Policy& policy, int n_layers, int n_tokens);

    // The next layer has passed; its preference is 0 or more (unused by policies that do not share by preference).
    void add(double preference);

    // Prefix tokens (window excluded) that each layer seen so far may hold now; never more than at the stage before.
    std::span<const int> kept() const { return kept_; }
    // The rule's own budgets of this stage: what decoding keeps to. Above kept() only with official rounding, where a
    // budget can grow but an evicted token cannot come back. Without eviction in prefill: C - w.
    std::span<const int> budgets() const { return budget_; }

    bool evicts() const { return evicts_; }
    // Tokens at the prompt's end that stay whatever their score: the window; the whole prompt where nothing is evicted.
    int window() const { return window_; }

private:
    std::vector<int> stage_budgets() const;
    std::vector<double> known_shares() const;

    Policy policy_;
    int n_layers_;
    bool evicts_;
    int window_;
    ShareTotal total_;
    std::vector<double> preference_;
    std::vector<int> known_;  // final budgets, where shares do not depend on the prompt
    std::vector<int> kept_, budget_;
};

}  // namespace cake
