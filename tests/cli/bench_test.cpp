// `cake bench` as its users run it: a table, files to go on from, the machine's ceilings.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/json_file.h"
#include "support/golden.h"
#include "support/run_program.h"

namespace cake::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Bench : public testing::Test {
protected:
    std::filesystem::path folder =
        std::filesystem::path(testing::TempDir()) /
        ("cake_bench_" +
         std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::string model = golden_path("tiny-llama") + "/model";

    void SetUp() override { std::filesystem::remove_all(folder); }
    void TearDown() override { std::filesystem::remove_all(folder); }

    std::vector<std::string> bench(std::vector<std::string> more) const {
        std::vector<std::string> args{"bench",
                                      "--model",
                                      model,
                                      "--cache-sizes",
                                      "48",
                                      "--set",
                                      "policy.window=16",
                                      "--new-tokens",
                                      "4",
                                      "--output",
                                      folder.string(),
                                      "--quiet"};
        args.insert(args.end(), more.begin(), more.end());
        return args;
    }
    std::map<std::string, json> rows() const {
        std::map<std::string, json> out;
        std::ifstream in(folder / "bench.jsonl");
        for (std::string line; std::getline(in, line);) {
            const json row = json::parse(line);
            EXPECT_TRUE(out.emplace(row["id"], row).second) << row["id"] << " twice";
        }
        return out;
    }
};

TEST_F(Bench, PrintsATableAndGoesOnWithAWiderSweep) {
    const auto narrow = bench({"--policies", "full,cake", "--prompts", "100", "--repeat", "2"});
    const ProgramResult first = run_program(narrow);
    ASSERT_EQ(first.exit_code, 0) << first.err;
    EXPECT_THAT(first.out, HasSubstr("| cake | 48 | 100 | 1 | 4 |"));
    const auto before = rows();
    EXPECT_EQ(before.size(), 4u);
    const ProgramResult wider = run_program(
        bench({"--policies", "full,cake", "--prompts", "100,200,5000", "--repeat", "2"}));
    ASSERT_EQ(wider.exit_code, 0) << wider.err;
    const auto after = rows();
    EXPECT_EQ(after.size(), 8u + 2);  // 5000 is beyond the context: two rows that say so
    for (const auto& [id, row] : before)
        EXPECT_EQ(after.at(id), row) << id;
    EXPECT_EQ(after.at("p5000/full/b1/n4/-1")["fits"], false);
    EXPECT_THAT(wider.out, HasSubstr("is longer than the context of 2048"));
    std::ifstream csv(folder / "bench.csv");
    std::string line;
    std::getline(csv, line);
    EXPECT_THAT(line, HasSubstr("prefill_tokens_per_s_mean,prefill_tokens_per_s_sd"));
    // Other threads measure something else.
    const ProgramResult other = run_program(bench({"--prompts", "100", "--threads", "1"}));
    EXPECT_EQ(other.exit_code, 2);
    EXPECT_THAT(other.err, HasSubstr("made with another configuration"));
}

TEST_F(Bench, StopsOnASignalBetweenRowsAndGoesOn) {
    const auto args = bench({"--policies", "full,cake,snapkv,tova", "--prompts", "500,1000,1500",
                             "--batches", "1,2,3,4", "--repeat", "20"});
    const ProgramResult r =
        run_program(args, {.signals = {{[this](double) {
                                            std::ifstream in(folder / "bench.jsonl");
                                            return in.peek() != std::ifstream::traits_type::eof();
                                        },
                                        SIGTERM}}});
    EXPECT_EQ(r.exit_code, 75) << r.err;
    const auto before = rows();
    EXPECT_GT(before.size(), 0u);
    EXPECT_LT(before.size(), 960u);

    // The rest of what comes first: the whole sweep would take too long.
    const ProgramResult rest = run_program(
        bench({"--policies", "full", "--prompts", "500", "--batches", "1", "--repeat", "20"}));
    ASSERT_EQ(rest.exit_code, 0) << rest.err;
    const auto after = rows();
    for (int repetition = 0; repetition < 20; ++repetition)
        EXPECT_TRUE(after.contains(fmt::format("p500/full/b1/n4/{}", repetition))) << repetition;
    EXPECT_GT(after.size(), before.size());
    for (const auto& [id, row] : before) {
        ASSERT_TRUE(after.contains(id)) << id;
        EXPECT_EQ(after.at(id), row) << id;
    }
}

TEST_F(Bench, NeedsNoWeightsAndHasTheSameTokensToKeepOnEveryNumberOfRanks) {
    const std::string config = model + "/config.json";
    std::vector<double> kept;
    for (int ranks : {1, 2}) {
        std::filesystem::remove_all(folder);
        auto args = bench({"--policies", "cake", "--prompts", "300", "--repeat", "1",
                           "--random-weights", "5", "--set", "model.layers=2"});
        args[2] = config;
        const ProgramResult r = ranks == 1 ? run_program(args) : run_program_on_ranks(ranks, args);
        ASSERT_EQ(r.exit_code, 0) << r.err;
        const json row = rows().at("p300/cake-48/b1/n4/0");
        EXPECT_EQ(row["machine"]["ranks"], ranks);
        EXPECT_EQ(row["model"]["layers"], 2);
        kept.push_back(row["kv"]["kept_bytes"]);
    }
    EXPECT_EQ(kept[0], kept[1]);
}

TEST_F(Bench, MeasuresAMachineThatPlanCanReckonWith) {
    for (int ranks : {1, 2}) {
        const std::vector<std::string> args{"bench", "--ceilings", "--model", model};
        const ProgramResult r = ranks == 1 ? run_program(args) : run_program_on_ranks(ranks, args);
        ASSERT_EQ(r.exit_code, 0) << r.err;
        std::filesystem::create_directories(folder);
        const std::string file = (folder / "machine.yaml").string();
        std::ofstream(file) << r.out;
        const ProgramResult plan =
            run_program({"plan", "--model", model, "--machine", file, "--prompt-length", "300"});
        EXPECT_EQ(plan.exit_code, 0) << plan.err;
    }
}

TEST_F(Bench, MeasuresEachKernelAlone) {
    const auto kernels = [&](const char* prompt) {
        return bench({"--kernels", "--prompts", prompt, "--cache-sizes", "48", "--batches", "2"});
    };
    for (int ranks : {1, 2}) {
        const auto args = kernels("200");
        const ProgramResult r = ranks == 1 ? run_program(args) : run_program_on_ranks(ranks, args);
        ASSERT_EQ(r.exit_code, 0) << r.err;
        EXPECT_THAT(r.out, HasSubstr("decode_attention"));
        std::ifstream file(folder / "kernels.json");
        const json all = json::parse(file);
        EXPECT_GT(all["ceilings"]["read_gb_s"], 0);
        EXPECT_GT(all["kernels"].size(), 25u);
        EXPECT_EQ(all["kernels"][0]["part"], "prefill");
    }
    const ProgramResult too_long = run_program(kernels("100000"));
    EXPECT_EQ(too_long.exit_code, 2);
    EXPECT_THAT(too_long.err, HasSubstr("the model's context"));
    json large = json::parse(std::ifstream(model + "/config.json"));
    large["max_position_embeddings"] = 10000000;
    const std::string config = (folder / "config.json").string();
    std::ofstream(config) << large;
    const ProgramResult too_many = run_program(
        {"bench", "--kernels", "--model", config, "--prompts", "10000000", "--batches", "4096"});
    EXPECT_EQ(too_many.exit_code, 2);
    EXPECT_THAT(too_many.err, HasSubstr("give smaller --batches"));
    EXPECT_EQ(run_program({"bench", "--kernels", "--ceilings", "--model", model}).exit_code, 2);
}

TEST_F(Bench, SamplesWhereATemperatureIsSet) {
    const auto sampled = [&](const char* setting) {
        return bench({"--prompts", "100", "--repeat", "1", "--set", setting});
    };
    const ProgramResult r = run_program(sampled("generation.temperature=1"));
    ASSERT_EQ(r.exit_code, 0) << r.err;
    EXPECT_EQ(rows().at("p100/cake-48/b1/n4/0")["sampling"]["temperature"], 1);
    // Greedy steps are something else, and rows of both would make one mean.
    const ProgramResult greedy = run_program(sampled("generation.temperature=0"));
    EXPECT_EQ(greedy.exit_code, 2);
    EXPECT_THAT(greedy.err, HasSubstr("made with another configuration"));
    const ProgramResult penalty = run_program(sampled("generation.repetition_penalty=1.2"));
    EXPECT_EQ(penalty.exit_code, 2);
    EXPECT_THAT(penalty.err, HasSubstr("leave them unset"));
}

TEST_F(Bench, PlaysATrace) {
    std::filesystem::create_directories(folder);
    const std::string trace = (folder / "trace.jsonl").string();
    std::ofstream(trace) << R"({"timestamp": 0, "input_length": 100, "output_length": 5})"
                         << "\n"
                         << R"({"timestamp": 10, "input_length": 40, "output_length": 3})"
                         << "\n";
    for (int ranks : {1, 2}) {
        std::filesystem::remove(folder / "bench.jsonl");
        const auto args = bench({"--requests", trace, "--cache-size", "48"});
        const ProgramResult r = ranks == 1 ? run_program(args) : run_program_on_ranks(ranks, args);
        ASSERT_EQ(r.exit_code, 0) << r.err;
        const json row = rows().at("requests/0");
        EXPECT_EQ(row["output_tokens"], 8);
        EXPECT_GT(row["ttft_s"]["p50"], 0);
    }
    const ProgramResult too_long =
        run_program(bench({"--requests", trace, "--length-scale", "100"}));
    EXPECT_EQ(too_long.exit_code, 2);
    EXPECT_THAT(too_long.err, HasSubstr("the model's context"));
}

}  // namespace
}  // namespace cake::test
