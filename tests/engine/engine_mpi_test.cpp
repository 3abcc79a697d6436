// The captures again, on ranks that are processes.
#include <gtest/gtest.h>

#include "mpi_main.h"
#include "support/golden.h"
#include "support/run_model.h"

namespace cake::test {
namespace {

TEST(EngineMpi, KeepsTheSameTokensAsTheOfficialCode) {
    Communicator& comm = test_world().comm();
    for (const std::string name : {"tiny-llama", "tiny-mistral", "tiny-qwen2", "tiny-llama31",
                                   "tiny-llama-linear", "tiny-qwen2-yarn"}) {
        SCOPED_TRACE(name);
        const Golden golden(name);
        RunSettings s;
        s.model = golden.model_path();
        if (comm.size() > read_model_config(s.model).n_heads)
            continue;
        const std::string prompt = name == "tiny-qwen2-yarn" ? "p200" : "p300";
        s.prompt = golden.prompt(prompt);
        s.new_tokens = 32;
        std::vector<nlohmann::json> runs;
        for (const auto& run : golden.runs())
            if (run["prompt"] == prompt && run.contains("cache_size")) {
                runs.push_back(run);
                s.policies.push_back(golden_policy(golden.index(), run));
            }
        s.policies.push_back(full_policy());
        const auto out = run_model(comm, s);
        const Capture full = golden.capture(prompt + "_full.safetensors");
        EXPECT_EQ(out.back().tokens, full.i32("tokens"));
        const auto logits = full.f32("logits");
        for (std::size_t i = 0; i < out.back().logits[0].size(); ++i)
            EXPECT_NEAR(out.back().logits[0][i], logits[i], 1e-4);
        for (std::size_t i = 0; i < runs.size(); ++i) {
            const std::string tag = runs[i]["tag"];
            SCOPED_TRACE(tag);
            const Capture capture = golden.capture(runs[i]["file"]);
            EXPECT_EQ(out[i].budgets, capture.i32("layer_budget"));
            const int n_kv = int(out[i].prefill[0].size());
            const auto kept =
                split_positions(capture.i32("prefill_positions"), capture.i32("prefill_len"), n_kv);
            EXPECT_EQ(difference(kept, out[i].prefill).different, 0);
            if (tag.find("posorder") != std::string::npos || tag.find("p300_c48") == 0) {
                EXPECT_EQ(out[i].tokens, capture.i32("tokens"));
                const auto final =
                    split_positions(capture.i32("final_positions"), capture.i32("final_len"), n_kv);
                EXPECT_EQ(difference(final, out[i].final).different, 0);
            }
        }
    }
}

// The policies that have no captures, served by one prefill: on these processes as on one rank.
TEST(EngineMpi, KeepsTheSameTokensAsOneRankUnderH2oAndTova) {
    const Golden golden("tiny-llama");
    RunSettings s;
    s.model = golden.model_path();
    s.prompt = golden.prompt("p300");
    s.new_tokens = 20;
    for (const std::string name : {"h2o", "tova"}) {
        PolicyConfig c;
        c.name = name;
        c.cache_size = 64;
        s.policies.push_back(make_policy(c, {}));
    }
    const auto self = make_self_communicator();
    const auto many = run_model(test_world().comm(), s), one = run_model(*self, s);
    for (std::size_t i = 0; i < one.size(); ++i) {
        EXPECT_EQ(many[i].tokens, one[i].tokens);
        EXPECT_EQ(many[i].prefill, one[i].prefill);
        EXPECT_EQ(many[i].final, one[i].final);
    }
}

}  // namespace
}  // namespace cake::test
