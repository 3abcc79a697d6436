// Fidelity of policies on a tiny model, at several numbers of ranks.
#include "eval/fidelity_run.h"

#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/golden.h"
#include "support/reference_model.h"
#include "support/run_model.h"
#include "support/thread_comm.h"

namespace cake::test {
namespace {

constexpr int S = 200, N = 40;

RunConfig study(std::vector<std::string> policies, std::vector<int> cache_sizes) {
    RunConfig config;
    config.model.path = Golden("tiny-llama").model_path();
    config.policy.window = 16;
    config.eval.policies = std::move(policies);
    config.eval.cache_sizes = std::move(cache_sizes);
    config.eval.positions = N;
    return config;
}

TextFidelity measure(int ranks, const RunConfig& config, int prompt = S) {
    const std::vector<TokenId> tokens = Golden("tiny-llama").prompt("p300");
    TextFidelity out;
    run_ranks(ranks, [&](Communicator& comm) {
        auto dev = make_cpu_backend(1);
        const ModelConfig model = read_model_config(config.model.path);
        Engine engine(*dev, comm, Checkpoint::open(config.model.path),
                      fidelity_plan(config, model, ranks, S));
        int steps = 0;
        const auto measured = measure_fidelity(
            engine, tokens, prompt, fidelity_policies(config, model),
            {.positions = N, .check = true, .progress = [&](int done) { steps = done; }});
        EXPECT_EQ(steps, model.n_layers + N);
        EXPECT_EQ(engine.pool().in_use(), 0);
        if (comm.rank() == 0)
            out = *measured;
    });
    return out;
}

const PolicyFidelity& find(const TextFidelity& text, const std::string& policy, int cache_size) {
    for (const PolicyFidelity& p : text.policies)
        if (p.policy == policy && p.cache_size == cache_size)
            return p;
    throw Error("no such policy: " + policy);
}

const std::vector<std::string> all{"cake", "snapkv", "pyramidkv",         "h2o",
                                   "tova", "full",   "cake:share=uniform"};

TEST(FidelityPolicies, AreTheFullCacheAndAllThatAreListed) {
    const auto policies = fidelity_policies(study({"snapkv", "full", "cake", "h2o"}, {48, 96}), {});
    ASSERT_EQ(policies.size(), 7u);
    EXPECT_TRUE(policies[0].keeps_everything());
    EXPECT_EQ(policies[1].name, "snapkv");
    // What does not evict steps with the full cache; cake with cake; the windows of h2o are half of its cache sizes.
    using Groups = std::vector<std::vector<std::size_t>>;
    RunConfig own = study({"snapkv", "full", "cake", "h2o"}, {48, 96});
    own.policy.window.reset();
    EXPECT_EQ(step_groups(fidelity_policies(own, {})), (Groups{{0, 1, 2}, {3, 4}, {5}, {6}}));
}

TEST(FidelityPolicies, HaveTheFullCacheWhateverTheCellsSay) {
    RunConfig config = study({}, {});
    config.policy.share = "uniform";
    EXPECT_TRUE(fidelity_policies(config, {})[0].keeps_everything());
    EXPECT_EQ(fidelity_policies(config, {}).size(), 2u);  // and policy.name
}

class Fidelity : public testing::TestWithParam<int> {};  // ranks

TEST_P(Fidelity, OfTheFullCacheIsWhatAPlainPrefillPredicts) {
    const TextFidelity t = measure(GetParam(), study({"cake"}, {48}));
    const PolicyFidelity& full = t.full();
    EXPECT_EQ(full.policy, "full");
    EXPECT_EQ(full.cache_size, 0);
    EXPECT_EQ(full.kept_percent, 100);
    EXPECT_EQ(full.kl, std::vector<double>(N, 0.0));
    EXPECT_EQ(full.top1_agreement(), 1);
    EXPECT_EQ(full.attention_error(), 0);
    const std::vector<TokenId> tokens = Golden("tiny-llama").prompt("p300");
    for (const int i : {0, 1, 20, N - 1}) {  // of tokens so far, the next one
        RunSettings s;
        s.model = Golden("tiny-llama").model_path();
        s.policies = {full_policy()};
        s.prompt.assign(tokens.begin(), tokens.begin() + S + i + 1);
        const std::vector<float> logits = run_model(1, s)[0].logits[0];
        const double nll = -softmax(logits).log_p[std::size_t(tokens[std::size_t(S + i + 1)])];
        EXPECT_NEAR(full.nll[std::size_t(i)], nll, 1e-4) << i;
    }
}

// What streaming holds is known: the first 4 tokens, and the latest.
TEST_P(Fidelity, OfStreamingIsThatOfAPlainModelInDoublePrecision) {
    constexpr int C = 48;
    RunConfig config = study({"streaming"}, {C});
    config.policy.window.reset();
    const TextFidelity t = measure(GetParam(), config);
    const PolicyFidelity& streaming = find(t, "streaming", C);

    const reference::PlainModel model(config.model.path);
    const std::vector<TokenId> tokens = Golden("tiny-llama").prompt("p300");
    reference::Cache whole = model.empty_cache();
    for (int i = 0; i < S; ++i)
        model.step(tokens[std::size_t(i)], i, whole);
    reference::Cache kept = whole;
    std::vector<double> errors(streaming.layers.size());
    for (int i = 0; i < N; ++i) {
        for (auto& layer : kept)
            for (auto& entries : layer)
                std::erase_if(entries, [&](const reference::Entry& e) {
                    return e.position >= 4 && e.position < S + i - (C - 4);
                });
        reference::Row logits, full_logits;
        std::vector<reference::Row> out, full_out;
        model.step(tokens[std::size_t(S + i)], S + i, whole, &full_logits, &full_out);
        model.step(tokens[std::size_t(S + i)], S + i, kept, &logits, &out);
        const auto distribution = [](const reference::Row& row) {
            return softmax(std::vector<float>(row.begin(), row.end()));
        };
        const Distribution full = distribution(full_logits), mine = distribution(logits);
        EXPECT_NEAR(streaming.kl[std::size_t(i)], kl_divergence(full, mine), 1e-5) << i;
        EXPECT_NEAR(streaming.nll[std::size_t(i)],
                    -mine.log_p[std::size_t(tokens[std::size_t(S + i + 1)])], 1e-4)
            << i;
        for (std::size_t l = 0; l < errors.size(); ++l) {
            double difference = 0, square = 0;
            for (std::size_t j = 0; j < out[l].size(); ++j) {
                difference += (out[l][j] - full_out[l][j]) * (out[l][j] - full_out[l][j]);
                square += full_out[l][j] * full_out[l][j];
            }
            errors[l] += std::sqrt(difference / square) / N;
        }
    }
    for (std::size_t l = 0; l < errors.size(); ++l)
        EXPECT_NEAR(streaming.layers[l].attention_error, errors[l], 1e-5) << "layer " << l;
}

TEST_P(Fidelity, IsWholeWhereNothingIsEvicted) {
    for (const int cache_size : {S + N, 2 * (S + N)}) {
        const TextFidelity t = measure(GetParam(), study(all, {cache_size}));
        EXPECT_EQ(t.policies.size(), all.size());
        for (const PolicyFidelity& p : t.policies) {
            SCOPED_TRACE(p.policy);
            EXPECT_EQ(p.kept_percent, 100);
            EXPECT_LT(*std::ranges::max_element(p.kl), 1e-7);
            EXPECT_EQ(p.top1_agreement(), 1);
            EXPECT_LT(p.attention_error(), 1e-5);
            for (int i = 0; i < N; ++i)
                EXPECT_NEAR(p.nll[std::size_t(i)], t.full().nll[std::size_t(i)], 1e-4);
        }
    }
}

TEST_P(Fidelity, FallsWithTheCache) {
    const TextFidelity t = measure(GetParam(), study(all, {32, 160}));
    for (const std::string& policy : all) {
        if (policy == "full")
            continue;
        SCOPED_TRACE(policy);
        const PolicyFidelity &small = find(t, policy, 32), &large = find(t, policy, 160);
        EXPECT_GT(mean(small.kl), mean(large.kl));
        EXPECT_GT(mean(large.kl), 0);
        EXPECT_GT(small.attention_error(), large.attention_error());
        EXPECT_NEAR(small.kept_percent, 16, 0.1);
        EXPECT_NEAR(large.kept_percent, 80, 0.1);
    }
    int budgets = 0;
    for (const LayerFidelity& l : find(t, "cake", 32).layers) {
        budgets += l.budget;
        EXPECT_EQ(l.kept, l.budget + 16);
    }
    EXPECT_EQ(budgets, 5 * (32 - 16));
    for (const LayerFidelity& l : find(t, "cake:share=uniform", 32).layers)
        EXPECT_EQ(l.budget, 32 - 16);
}

TEST_P(Fidelity, OfAPolicyIsTheSameBesideOthersAndOnOneRank) {
    const TextFidelity together = measure(GetParam(), study(all, {48, 96})),
                       alone = measure(1, study({"cake"}, {48}));
    const PolicyFidelity &a = find(together, "cake", 48), &b = find(alone, "cake", 48);
    for (int i = 0; i < N; ++i) {
        EXPECT_NEAR(a.kl[std::size_t(i)], b.kl[std::size_t(i)], 1e-5) << i;
        EXPECT_NEAR(a.nll[std::size_t(i)], b.nll[std::size_t(i)], 1e-4) << i;
    }
    for (std::size_t l = 0; l < a.layers.size(); ++l) {
        EXPECT_EQ(a.layers[l].budget, b.layers[l].budget);
        EXPECT_NEAR(a.layers[l].attention_error, b.layers[l].attention_error, 1e-4);
        EXPECT_GT(a.layers[l].attention_error, 0);
    }
}

// A shorter prompt, which stays whole at first, in memory that was planned for a longer one.
TEST_P(Fidelity, TakesPromptsThatDecodingAloneEvictsFrom) {
    const TextFidelity t = measure(GetParam(), study(all, {64}), 60);
    const PolicyFidelity& tova = find(t, "tova", 64);
    EXPECT_EQ(tova.kept_percent, 100);
    EXPECT_LT(tova.kl[0], 1e-7);      // 61 tokens, all there
    EXPECT_GT(tova.kl[N - 1], 1e-7);  // of 100 tokens 64
}

INSTANTIATE_TEST_SUITE_P(Ranks, Fidelity, testing::Values(1, 2, 3, 6));  // of 4 KV heads

TEST(FidelityStops, AtAnyLayerAndStep) {
    const RunConfig config = study({"cake"}, {48});
    const std::vector<TokenId> tokens = Golden("tiny-llama").prompt("p300");
    for (const int after : {0, 3, 5, 20})
        run_ranks(2, [&](Communicator& comm) {
            auto dev = make_cpu_backend(1);
            const ModelConfig model = read_model_config(config.model.path);
            Engine engine(*dev, comm, Checkpoint::open(config.model.path),
                          fidelity_plan(config, model, 2, S));
            int asked = 0;
            const auto measured =
                measure_fidelity(engine, tokens, S, fidelity_policies(config, model),
                                 {.positions = N, .stopped = [&] { return asked++ == after; }});
            EXPECT_FALSE(measured);
            EXPECT_EQ(asked, comm.rank() == 0 ? after + 1 : 0);
            EXPECT_EQ(engine.pool().in_use(), 0);
        });
}

}  // namespace
}  // namespace cake::test
