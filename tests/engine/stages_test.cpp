// The heart step by step against the captures: scores of every layer, budgets of every stage.
#include <gtest/gtest.h>

#include "policy/cascade.h"
#include "policy/observer.h"
#include "support/golden.h"
#include "support/run_model.h"

namespace cake::test {
namespace {

class Stages : public testing::TestWithParam<std::string> {};

TEST_P(Stages, ScoresAndBudgetsAreThoseOfTheOfficialCode) {
    const Golden golden(GetParam());
    const std::vector<TokenId> prompt = golden.prompt("p300");
    const Capture before = golden.capture("p300_prefill.safetensors");
    const auto captured = before.f32("evict_score");  // [L, n_kv, S - w]

    PlanInput plan;
    plan.model = read_model_config(golden.model_path());
    std::vector<nlohmann::json> runs;
    std::vector<Cascade> cascades;
    for (const auto& run : golden.runs()) {
        if (run["prompt"] != "p300")
            continue;
        runs.push_back(run);
        plan.policies.push_back(golden_policy(golden.index(), run));
        cascades.emplace_back(plan.policies.back(), plan.model.n_layers, int(prompt.size()));
    }
    plan.prompt = int(prompt.size());
    plan.chunk = 77;
    auto dev = make_cpu_backend(1);
    auto self = make_self_communicator();
    PhaseClock times(*dev);
    const Rank rank{*dev, *self, &times};
    const Shard shard = shard_of(plan.model, 1, 0);
    const Model model =
        load_model(*dev, Checkpoint::open(golden.model_path()), plan.model, shard, DType::F32);
    Workspace ws(*dev, plan.model, shard, workspace_size(plan));

    View x = embed(rank, model, prompt, ws.x, ws);
    std::size_t at = 0;
    const std::size_t L = std::size_t(plan.model.n_layers);
    for (std::size_t l = 0; l < L; ++l) {
        Observer observer(rank, plan.model, plan.prompt, ws, {});
        const LayerKv kv = forward_layer(
            rank, model, int(l), x, ws,
            [&](View q, const LayerKv& kv, int first) { observer.see(q, kv, first); });
        for (std::size_t i = 0; i < runs.size(); ++i) {
            const Capture capture = golden.capture(runs[i]["file"]);
            cascades[i].add(observer.preference(plan.policies[i], kv)->preference);
            const auto budget = capture.i32("stage_budget"), kept = capture.i32("stage_kept");
            for (std::size_t j = 0; j <= l && budget[l * L] >= 0; ++j) {
                EXPECT_EQ(cascades[i].budgets()[j], budget[l * L + j])
                    << runs[i]["tag"] << " stage " << l;
                EXPECT_EQ(cascades[i].kept()[j], kept[l * L + j])
                    << runs[i]["tag"] << " stage " << l;
            }
        }
        const Policy& evicting = plan.policies[0];
        ASSERT_TRUE(evicting.evicts(plan.prompt));
        for (float score : observer.scores(evicting, kv).span<float>()) {
            EXPECT_NEAR(score, captured[at], 1e-4 * std::abs(captured[at])) << "layer " << l;
            ++at;
        }
    }
    EXPECT_EQ(at, captured.size());
}

INSTANTIATE_TEST_SUITE_P(Models, Stages,
                         testing::Values("tiny-llama", "tiny-mistral", "tiny-qwen2"),
                         [](const auto& info) {
                             std::string name = info.param;
                             std::replace(name.begin(), name.end(), '-', '_');
                             return name;
                         });

}  // namespace
}  // namespace cake::test
