// `cake plan --machine`: predictions for people and for programs.
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "support/golden.h"
#include "support/run_program.h"
#include "support/temp_folder.h"

namespace cake::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// tiny-llama: 5 layers, 8 query and 4 KV heads, d_model 128; 512 tokens of vocabulary.
ProgramResult plan(std::vector<std::string> more) {
    more.insert(more.begin(), {"plan", "--model", golden_path("tiny-llama") + "/model/config.json",
                               "--prompt-length", "300", "--cache-size", "64"});
    return run_program(more);
}

TEST(PlanMachine, PrintsATableOverRanks) {
    const ProgramResult r = plan({"--machine", "h100"});
    EXPECT_EQ(r.exit_code, 0) << r.err;
    EXPECT_THAT(r.out, AllOf(HasSubstr("predicted, not measured: NVIDIA H100"),
                             HasSubstr("sums in bf16"), HasSubstr("policy cake, cache size 64")));
    EXPECT_THAT(r.out, AllOf(HasSubstr("\n    1     1  yes"), HasSubstr("\n    8     1  yes"),
                             HasSubstr("11 x 256 B\n")));
    EXPECT_THAT(plan({"--machine", "h100", "--max-ranks", "3"}).out,
                AllOf(HasSubstr("\n    2     1"), HasSubstr("\n    3     1"),
                      Not(HasSubstr("\n    4     1"))));
}

TEST(PlanMachine, PrintsJsonWithTheTrafficOfThePlan) {
    const auto predicted = nlohmann::json::parse(
        plan({"--machine", "cpu", "--ranks", "4", "--batch", "2", "--json"}).out);
    const auto planned =
        nlohmann::json::parse(plan({"--ranks", "4", "--batch", "2", "--json"}).out);
    ASSERT_EQ(predicted["predictions"].size(), 1u);
    const auto& p = predicted["predictions"][0];
    EXPECT_EQ(p["traffic"], planned["traffic"]);
    EXPECT_EQ(p["ranks"], 4);
    EXPECT_EQ(p["nodes"], 2) << "two ranks on each machine of two cores";
    EXPECT_EQ(predicted["prompt"], 300);
    EXPECT_EQ(predicted["machine"]["devices_per_node"], 2);
    std::size_t most = 0;
    for (const auto& rank : planned["ranks"])
        most = std::max(most, rank["total_bytes"].get<std::size_t>());
    EXPECT_EQ(p["rank_bytes"], most);
    EXPECT_FALSE(predicted.contains("ranks")) << "bytes of ranks are plan's without a machine";
}

TEST(PlanMachine, EndsWithOneWhereNothingFits) {
    TempFolder folder;
    // 8 ranks, the most there may be, need 991 KiB each: columns of the MLP are dealt evenly.
    std::string text = "name: small, devices_per_node: 8, memory_bytes: 960KiB, read_gb_s: 1, ";
    text += "gemm_tflop_s: 1, attention_tflop_s: 1, link_gb_s: 1, link_latency_us: 1, ";
    text += "network_gb_s: 1, network_latency_us: 1, backend: cpu";
    const ProgramResult r = plan({"--machine", folder.write("m.yaml", "{" + text + "}")});
    EXPECT_EQ(r.exit_code, 1) << r.err;
    EXPECT_THAT(r.out, AllOf(HasSubstr("\n    1     1   no"), HasSubstr("\n    8     1   no")));
}

TEST(PlanMachine, SaysWhatIsWrong) {
    auto expect = [](std::vector<std::string> args, const std::string& part) {
        const ProgramResult r = plan(std::move(args));
        EXPECT_EQ(r.exit_code, 2);
        EXPECT_THAT(r.err, HasSubstr(part));
    };
    expect({"--machine", "h101"}, "the nearest one is h100");
    expect({"--machine", "none/m.yaml"}, "none/m.yaml: cannot be opened");
    expect({"--machine", "h100", "--max-ranks", "9"}, "9 ranks are too many for this model");
    expect({"--machine", "h100", "--memory", "3"}, "--memory");
    expect({"--max-ranks", "3"}, "--machine");
    expect({"--machine", "h100", "--backend", "cpu"}, "computes with cuda: leave it at auto");
}

}  // namespace
}  // namespace cake::test
