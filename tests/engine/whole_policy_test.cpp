// h2o and tova whole, prefill and decoding, against plain programs of them in double precision over a whole model in double
// precision. It is fed with the tokens that the engine chose.
#include <algorithm>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/near.h"
#include "support/reference.h"
#include "support/reference_model.h"
#include "support/run_model.h"

namespace cake::test {
namespace {

using reference::Cache;
using reference::Entries;
using reference::PlainModel;
using reference::Row;
using reference::Rows;

constexpr int C = 64, kNew = 20;

const Golden& golden() {
    static const Golden g("tiny-llama");
    return g;
}

Policy row(const std::string& name) {
    PolicyConfig c;
    c.name = name;
    c.cache_size = C;
    return make_policy(c, {});
}

struct PlainOutcome {
    Positions prefill, final;
    Row logits;  // of the last step
};

Positions positions(const Cache& cache) {
    Positions out;
    for (const auto& layer : cache) {
        out.emplace_back();
        for (const Entries& entries : layer) {
            out.back().emplace_back();
            for (const auto& e : entries)
                out.back().back().push_back(e.position);
        }
    }
    return out;
}

// Of the entries but the last w, the best C - w stay.
void keep_best(Entries& entries, Row score, int w) {
    if (int(entries.size()) <= C)
        return;
    score.resize(entries.size() - std::size_t(w));
    Entries left;
    for (std::int32_t i : reference::decode_evict(score, std::size_t(C - w), std::size_t(w), true))
        left.push_back(entries[std::size_t(i)]);
    entries = left;
}

// H2O: every token sums what all queries attend to it, mean over the query heads of the KV head; the lowest sums leave
// but for the last C / 2 tokens'.
void h2o(const PlainModel& model, std::span<const TokenId> prompt, std::span<const TokenId> answer,
         PlainOutcome& out) {
    Cache cache = model.empty_cache();
    const auto take = [&](TokenId token, int position, bool evict) {
        const auto rows = model.step(token, position, cache, &out.logits);
        for (std::size_t l = 0; l < cache.size(); ++l) {
            const Rows means = reference::group_mean(rows[l], cache[l].size());
            for (std::size_t g = 0; g < cache[l].size(); ++g) {
                Row sums;
                for (std::size_t j = 0; j < cache[l][g].size(); ++j)
                    sums.push_back(cache[l][g][j].running += means[g][j]);
                if (evict)
                    keep_best(cache[l][g], sums, C / 2);
            }
        }
    };
    for (std::size_t i = 0; i < prompt.size(); ++i)
        take(prompt[i], int(i), i + 1 == prompt.size());
    out.prefill = positions(cache);
    for (std::size_t i = 0; i < answer.size(); ++i)
        take(answer[i], int(prompt.size() + i), true);
    out.final = positions(cache);
}

// TOVA: the tokens leave that the last query attends to least, mean over all heads of the layer.
void tova(const PlainModel& model, std::span<const TokenId> prompt, std::span<const TokenId> answer,
          PlainOutcome& out) {
    Cache cache = model.empty_cache();
    const auto take = [&](TokenId token, int position, bool evict) {
        const auto rows = model.step(token, position, cache, &out.logits);
        for (std::size_t l = 0; evict && l < cache.size(); ++l)
            for (Entries& entries : cache[l])
                keep_best(entries, reference::group_mean(rows[l], 1)[0], 1);
    };
    for (std::size_t i = 0; i < prompt.size(); ++i)
        take(prompt[i], int(i), i + 1 == prompt.size());
    out.prefill = positions(cache);
    for (std::size_t i = 0; i < answer.size(); ++i)
        take(answer[i], int(prompt.size() + i), true);
    out.final = positions(cache);
}

RunOutcome run(const std::string& policy, int ranks, int prompt, int page_tokens, int chunk = 64) {
    RunSettings s;
    s.model = golden().model_path();
    s.policies = {row(policy)};
    s.prompt = golden().prompt("p300");
    s.prompt.resize(std::size_t(prompt));
    s.new_tokens = kNew;
    s.page_tokens = page_tokens;
    s.chunk = chunk;
    const RunOutcome out = run_model(ranks, s)[0];
    EXPECT_LE(out.pages_peak, out.pages_planned);
    EXPECT_EQ(out.pages_left, 0);
    return out;
}

const PlainOutcome& plain(const std::string& policy, int prompt,
                          const std::vector<TokenId>& tokens) {
    static const PlainModel model(golden().model_path());
    static std::map<std::tuple<std::string, int, std::vector<TokenId>>, PlainOutcome> known;
    const auto [at, is_new] = known.try_emplace({policy, prompt, tokens});
    if (is_new) {
        auto ids = golden().prompt("p300");
        ids.resize(std::size_t(prompt));
        const std::span<const TokenId> answer(tokens.data(), tokens.size() - 1);  // that were fed
        (policy == "h2o" ? h2o : tova)(model, ids, answer, at->second);
    }
    return at->second;
}

class WholePolicy : public testing::TestWithParam<std::tuple<const char*, int>> {  // ranks
protected:
    std::string policy() const { return std::get<0>(GetParam()); }
    int ranks() const { return std::get<1>(GetParam()); }
};

TEST_P(WholePolicy, KeepsWhatAPlainProgramKeeps) {
    // Prompts that are cut, by much and by one; that fill the cache; that reach its size while decoding, and that do not.
    // Pages that the cache fills, and others.
    for (const auto& [prompt, page_tokens] :
         {std::pair{300, 16}, std::pair{C + 1, 5}, std::pair{C, 64}, std::pair{C - 7, 16},
          std::pair{C - kNew - 3, 7}, std::pair{1, 16}}) {
        SCOPED_TRACE(fmt::format("{} tokens, pages of {}", prompt, page_tokens));
        const RunOutcome got = run(policy(), ranks(), prompt, page_tokens);
        const PlainOutcome& want = plain(policy(), prompt, got.tokens);
        EXPECT_EQ(got.evicted, prompt > C);
        EXPECT_EQ(got.prefill, want.prefill);
        EXPECT_EQ(got.final, want.final);
        EXPECT_THAT(got.logits.back(), NearTo(want.logits, {.abs = 2e-4}));
    }
}

TEST_P(WholePolicy, DoesNotDependOnHowThePromptIsCut) {
    const RunOutcome whole = run(policy(), ranks(), 300, 16, 300);
    for (const int chunk : {7, 64, 299}) {
        const RunOutcome cut = run(policy(), ranks(), 300, 16, chunk);
        EXPECT_EQ(cut.prefill, whole.prefill) << chunk;
        EXPECT_EQ(cut.final, whole.final) << chunk;
        EXPECT_EQ(cut.tokens, whole.tokens) << chunk;
    }
}

// 5 and 8 ranks: more than there are KV heads.
INSTANTIATE_TEST_SUITE_P(
    , WholePolicy, testing::Combine(testing::Values("h2o", "tova"), testing::Values(1, 2, 3, 5, 8)),
    [](const auto& info) {
        return fmt::format("{}_on_{}", std::get<0>(info.param), std::get<1>(info.param));
    });

}  // namespace
}  // namespace cake::test
