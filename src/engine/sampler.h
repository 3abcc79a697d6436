// From logits to a token.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <unordered_set>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/dtype.h"
#include "config/run_config.h"
#include "kernels/cpu/draw_token.h"

namespace cake {

// Applied in the order of Hugging Face's `generate`: repetition penalty, temperature, top-k, top-p, min-p. Each filter
// sees what the one before it left. Temperature 0 takes the best token after the penalty and passes over the rest.
struct Sampling {
    double temperature = 0;  // 0: the best token
    double top_p = 1;        // the smallest set of best tokens whose probabilities reach this
    std::uint64_t seed = 0;  // of the random numbers
    int top_k = 0;           // so many best tokens; 0: all
    double min_p = 0;        // tokens at least this likely, as a part of the likeliest
    double repetition_penalty =
        1;             // logits of tokens seen: above 0 divided by this, else times this
    int logprobs = 0;  // log-probabilities of the token and of so many best; 0: none
};

Sampling sampling_of(const RunConfig& config);

// Log-softmax of the logits as they came from the model, in double (nats).
struct TokenLogprobs {
    struct Entry {
        TokenId token;
        double logprob;
    };
    Entry chosen{};
    std::vector<Entry> top;  // best first
};

// {"token", "logprob", "top": [[token, logprob], ...]}
nlohmann::json to_json(const TokenLogprobs& logprobs);

// One per request, on the rank that decides. Of equal tokens the lower id is the better one, in every filter: top-k
// keeps exactly k. A logit that is not a number counts as -infinity. The random numbers are those of mt19937_64, whose
// bits the C++ standard fixes; one is drawn per token, none where temperature is 0.
class Sampler {
public:
    explicit Sampler(const Sampling& sampling) : sampling_(sampling), random_(sampling.seed) {}

    // Tokens of the prompt, for the repetition penalty. Sampled tokens are seen without being told.
    void seen(std::span<const TokenId> tokens);

    TokenId sample(std::span<const float> logits);
    // Whether that takes more than Backend::sample knows: a repetition penalty, or log-probabilities.
    bool needs_logits() const {
        return sampling_.repetition_penalty != 1 || sampling_.logprobs > 0;
    }
    // Whether that is the likeliest token whatever the others are, and nothing else is to be known of them.
    bool takes_best() const { return sampling_.temperature <= 0 && !needs_logits(); }
    // What the next token is drawn by, in place of sample(): it has the same random number.
    Draw next_draw();

    // Of the last token; nothing where Sampling::logprobs is 0.
    const std::optional<TokenLogprobs>& logprobs() const { return logprobs_; }

private:
    TokenId choose(std::span<const float> logits);

    Sampling sampling_;
    std::mt19937_64 random_;
    std::unordered_set<TokenId> seen_;
    std::vector<Candidate> candidates_;
    std::optional<TokenLogprobs> logprobs_;
};

}  // namespace cake
