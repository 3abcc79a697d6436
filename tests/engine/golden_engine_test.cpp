// The engine against captures of the official code, end to end: tiny models, every cache size, flat and cascading, every
// number of ranks that their heads allow.
#include <ostream>

#include <gtest/gtest.h>

#include "support/golden_checks.h"

namespace cake::test {
namespace {

struct Case {
    std::string model;
    int ranks;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.model << " on " << c.ranks << " ranks"; }

std::string case_name(const testing::TestParamInfo<Case>& info) {
    std::string name = info.param.model;
    std::replace(name.begin(), name.end(), '-', '_');
    return name + "_" + std::to_string(info.param.ranks) + "_ranks";
}

class GoldenEngine : public testing::TestWithParam<Case> {
protected:
    Golden golden{GetParam().model};

    RunPrompt run() const {
        return [this](std::span<const TokenId> prompt, std::vector<Policy> policies,
                      std::vector<std::vector<TokenId>> answers) {
            RunSettings s;
            s.model = golden.model_path();
            s.policies = std::move(policies);
            s.prompt.assign(prompt.begin(), prompt.end());
            s.answers = std::move(answers);
            s.new_tokens = 32;
            return run_model(GetParam().ranks, s);
        };
    }
};

TEST_P(GoldenEngine, FullCacheGivesTheLogitsAndTokensOfTheOfficialModel) {
    expect_official_answers(golden, {}, run());
}

TEST_P(GoldenEngine, EveryRunOfTheOfficialCodeKeepsTheSameTokens) {
    expect_official_evictions(golden, {}, run());
}

// Every number of ranks that the query heads allow.
std::vector<Case> all_cases() {
    std::vector<Case> cases;
    for (const auto& [model, heads] : {std::pair{"tiny-llama", 8},
                                       {"tiny-mistral", 4},
                                       {"tiny-qwen2", 6},
                                       {"tiny-llama-bf16", 8},
                                       {"tiny-llama31", 8},
                                       {"tiny-llama-linear", 4},
                                       {"tiny-qwen2-yarn", 6}})
        for (int ranks = 1; ranks <= heads; ++ranks)
            cases.push_back({model, ranks});
    return cases;
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenEngine, testing::ValuesIn(all_cases()), case_name);

}  // namespace
}  // namespace cake::test
