// The captures again, on ranks that are processes.
#include <gtest/gtest.h>

#include "mpi_main.h"
#include "support/golden.h"
#include "support/run_model.h"

namespace cake::test {
namespace {

TEST(EngineMpi, KeepsTheSameTokensAsTheOfficialCode) {
    Communicator& comm = test_world().comm();
    for (const std::string name : {"tiny-llama", "tiny-mistral", "tiny-qwen2"}) {
        SCOPED_TRACE(name);
        const Golden golden(name);
        RunSettings s;
        s.model = golden.model_path();
        if (comm.size() > read_model_config(s.model).n_heads)
            continue;
        s.prompt = golden.prompt("p300");
        s.new_tokens = 32;
        std::vector<nlohmann::json> runs;
        for (const auto& run : golden.runs())
            if (run["prompt"] == "p300") {
                runs.push_back(run);
                s.policies.push_back(golden_policy(golden.index(), run));
            }
        const auto out = run_model(comm, s);
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
            }
        }
    }
}

}  // namespace
}  // namespace cake::test
