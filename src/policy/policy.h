// A policy is a row of a table: what it observes, how an old token is scored, how layers share the budget, what decoding
// does. Every cell can be set in the configuration, so an ablation is a configuration. See docs/policies.md.
#pragma once

#include <string>
#include <vector>

#include "config/model_config.h"
#include "config/run_config.h"
#include "kernels/backend.h"

namespace cake {

enum class Observe { Nothing, Window, All };  // which queries look at the prompt
enum class Heads {
    Group,
    All
};  // whose attention scores a token: a KV head's query heads, or the model's
// How layers share the budget: all but Preference know their shares before the prompt passes.
enum class Share { Everything, Uniform, Pyramid, Random, Preference };
enum class Rounding { Exact, Official };              // policy/share.h
enum class DecodeEvict { None, Position, Official };  // which token leaves at each new one

struct Policy {
    std::string name = "full";
    Observe observe = Observe::Nothing;
    ColumnScore score = ColumnScore::MeanPlusVariance;
    Heads heads = Heads::Group;
    Share share = Share::Everything;
    Rounding rounding = Rounding::Exact;
    DecodeEvict decode = DecodeEvict::None;
    bool cascade = true;  // cut after every layer, else once after the last
    int cache_size = 0;  // C: tokens per layer and KV head on average, window included; 0: no limit
    int window =
        0;  // w: the last tokens, which observe and are never evicted; in a row that observes all, 0: C / 2
    int pool = 1;               // width of the average pool over positions, odd
    double tau1 = 1, tau2 = 1;  // preference = H^(1/tau1) * V^(1/tau2)
    double gamma = 0;           // weight of the variance in a token's score
    DType stats = DType::F32;   // probabilities are rounded to this before the statistics

    int sinks = 0;  // first tokens that stay where nothing observes: the window is C - sinks
    std::uint64_t seed = 0;  // of random shares
    bool tolerant = false;   // a prompt of up to C + w tokens stays whole: CAKE's official rule

    bool keeps_everything() const { return share == Share::Everything; }
    int longest_whole() const { return cache_size + (tolerant ? window : 0); }
    bool evicts(int n_tokens) const { return !keeps_everything() && n_tokens > longest_whole(); }
    // While decoding, each slot keeps a running sum of the attention it gets.
    bool accumulates() const { return observe == Observe::All && decode != DecodeEvict::None; }
    int prefix_budget() const { return cache_size - window; }  // C - w
};

// The row of config.name with the configuration's cells laid over it; tau from the model's defaults where unset.
// Usage errors: an unknown name, C <= w, an even pool, ...
Policy make_policy(const PolicyConfig& config, const ModelConfig& model);

// `config` with every cell that `policy` has resolved: what a report records.
PolicyConfig resolved(const PolicyConfig& config, const Policy& policy);

std::vector<std::string> policy_names();

}  // namespace cake
