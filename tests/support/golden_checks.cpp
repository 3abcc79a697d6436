#include "support/golden_checks.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include <gtest/gtest.h>

namespace cake::test {
namespace {

double largest_difference(const std::vector<float>& a, const float* b) {
    double most = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        most = std::max(most, std::abs(double(a[i]) - double(b[i])));
    return most;
}

// Score-order runs that are stable under rounding (golden README), and all in order of position.
bool in_order_of_position(const std::string& tag) {
    return tag.find("posorder") != std::string::npos;
}
bool stable_to_the_end(const std::string& tag) {
    return in_order_of_position(tag) || tag.find("p300_c48") == 0 || tag == "p300_c57_casc";
}

void expect_near(const std::vector<int>& got, const std::vector<std::int32_t>& want, int most) {
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t l = 0; l < got.size(); ++l)
        EXPECT_LE(std::abs(got[l] - want[l]), most)
            << "layer " << l << ": " << got[l] << ", not " << want[l];
}

// Where layers keep other numbers of tokens, heads are compared as sets of positions.
double part_of_others(const Positions& want, const Positions& got) {
    std::int64_t missing = 0, all = 0;
    for (std::size_t l = 0; l < want.size(); ++l)
        for (std::size_t h = 0; h < want[l].size(); ++h) {
            std::vector<std::int32_t> theirs = want[l][h], ours = got[l][h], both;
            std::sort(theirs.begin(), theirs.end());
            std::sort(ours.begin(), ours.end());
            std::set_intersection(theirs.begin(), theirs.end(), ours.begin(), ours.end(),
                                  std::back_inserter(both));
            all += std::int64_t(theirs.size());
            missing += std::int64_t(theirs.size() - both.size());
        }
    return double(missing) / double(std::max<std::int64_t>(all, 1));
}

void expect_kept(const Positions& want, const Positions& got, double most) {
    if (most == 0) {
        EXPECT_EQ(difference(want, got).different, 0);
    } else {
        EXPECT_LE(part_of_others(want, got), most);
    }
}

void expect_eviction(const Golden& golden, const Closeness& close, const nlohmann::json& run,
                     const Capture& before, const RunOutcome& out) {
    const std::string tag = run["tag"];
    SCOPED_TRACE(tag);
    const Capture capture = golden.capture(run["file"]);
    for (std::size_t l = 0; l < out.seen.size(); ++l) {
        const auto& seen = *out.seen[l];
        EXPECT_NEAR(seen.entropy / before.f32("disp")[l], 1, close.statistics) << "layer " << l;
        EXPECT_NEAR(seen.variance / before.f32("var")[l], 1, close.statistics) << "layer " << l;
        EXPECT_NEAR(seen.preference / before.f32("pref")[l], 1, close.statistics) << "layer " << l;
    }
    expect_near(out.budgets, capture.i32("layer_budget"), close.budget);
    expect_near(out.kept, capture.i32("prefill_len"), close.budget);
    const int n_kv = int(out.prefill[0].size());
    expect_kept(split_positions(capture.i32("prefill_positions"), capture.i32("prefill_len"), n_kv),
                out.prefill, close.kept);
    EXPECT_LE(out.pages_peak, out.pages_planned);
    EXPECT_EQ(out.pages_left, 0);
    std::vector<int> final_lengths;
    for (const auto& layer : out.final)
        final_lengths.push_back(int(layer[0].size()));
    expect_near(final_lengths, capture.i32("final_len"), close.budget);
    if (close.answers && stable_to_the_end(tag)) {
        EXPECT_EQ(out.tokens, capture.i32("tokens"));
    }
    if (close.answers ? stable_to_the_end(tag) : in_order_of_position(tag)) {
        expect_kept(split_positions(capture.i32("final_positions"), capture.i32("final_len"), n_kv),
                    out.final, close.kept_at_end);
    }
}

}  // namespace

void expect_official_answers(const Golden& golden, const Closeness& close, const RunPrompt& run) {
    for (const auto& [prompt, ids] : golden.index()["prompts"].items()) {
        SCOPED_TRACE(prompt);
        const Capture capture = golden.capture(prompt + "_full.safetensors");
        const auto logits = capture.f32("logits");
        const auto tokens = capture.i32("tokens");
        const RunOutcome out = run(golden.prompt(prompt), {full_policy()}, {tokens})[0];
        EXPECT_FALSE(out.evicted);
        const std::size_t vocab = out.logits[0].size();
        ASSERT_GE(logits.size(), 16 * vocab);  // of some models not of every token (trim.py)
        if (close.answers) {
            EXPECT_EQ(out.tokens, tokens);
        }
        ASSERT_GE(out.logits.size(), logits.size() / vocab);
        for (std::size_t t = 0; t < logits.size() / vocab; ++t)
            EXPECT_LT(largest_difference(out.logits[t], logits.data() + t * vocab), close.logits)
                << "token " << t;
    }
}

void expect_official_evictions(const Golden& golden, const Closeness& close, const RunPrompt& run,
                               const std::function<bool(const nlohmann::json&)>& wanted) {
    for (const auto& [prompt, ids] : golden.index()["prompts"].items()) {
        std::vector<Policy> policies;
        std::vector<nlohmann::json> runs;
        std::vector<std::vector<TokenId>> answers;
        for (const auto& r : golden.runs()) {
            if (r["prompt"] == prompt && r.contains("cache_size") && (!wanted || wanted(r))) {
                policies.push_back(golden_policy(golden.index(), r));
                runs.push_back(r);
                answers.push_back(golden.capture(r["file"]).i32("tokens"));
            }
        }
        if (runs.empty())
            continue;
        const auto outcomes = run(golden.prompt(prompt), policies, answers);
        const Capture before = golden.capture(prompt + "_prefill.safetensors");
        for (std::size_t i = 0; i < runs.size(); ++i)
            expect_eviction(golden, close, runs[i], before, outcomes[i]);
    }
}

}  // namespace cake::test
