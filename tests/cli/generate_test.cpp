// The program as its users run it: results, reports, and what it says when something is wrong.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/json_file.h"
#include "support/golden.h"
#include "support/run_program.h"

namespace cake::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class Generate : public testing::Test {
protected:
    std::filesystem::path folder =
        std::filesystem::path(testing::TempDir()) /
        ("cake_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::string model = golden_path("tiny-llama") + "/model";

    void SetUp() override {
        std::filesystem::remove_all(folder);
        std::filesystem::create_directories(folder);
        std::ofstream(file("prompt.json")) << nlohmann::json(Golden("tiny-llama").prompt("p300"));
    }
    void TearDown() override { std::filesystem::remove_all(folder); }
    std::string file(const std::string& name) const { return (folder / name).string(); }

    std::vector<std::string> generate(const std::string& name, std::vector<std::string> more = {}) {
        std::vector<std::string> args{"generate",
                                      "--model",
                                      model,
                                      "--prompt-tokens",
                                      file("prompt.json"),
                                      "--max-new-tokens",
                                      "32",
                                      "--cache-size",
                                      "96",
                                      "--window",
                                      "16",
                                      "--tau1",
                                      "1.6",
                                      "--tau2",
                                      "0.6",
                                      "--rounding",
                                      "official",
                                      "--check",
                                      "--report",
                                      file(name + ".json"),
                                      "--dump-kept",
                                      file(name + ".kept.json")};
        args.insert(args.end(), more.begin(), more.end());
        return args;
    }

    // One line on stderr, exit code 2, nothing on stdout.
    void expect_usage_error(const ProgramResult& r, const std::string& what) {
        EXPECT_EQ(r.exit_code, 2) << r.err;
        EXPECT_THAT(r.err, HasSubstr("cake: error: "));
        EXPECT_THAT(r.err, HasSubstr(what));
        std::string line;
        int lines = 0;
        for (std::istringstream in(r.err); std::getline(in, line);)
            lines += line.find("warning") == std::string::npos && !line.empty();
        EXPECT_EQ(lines, 1) << r.err;
        EXPECT_EQ(r.out, "");
    }
};

TEST_F(Generate, GeneratesTheTokensOfTheOfficialCodeAndReportsIt) {
    const ProgramResult r = run_program(generate("one"));
    ASSERT_EQ(r.exit_code, 0) << r.err;
    const auto report = read_json_file(file("one.json"));
    const auto& request = report["requests"][0];
    const Capture capture = Golden("tiny-llama").capture("p300_c96_casc_posorder.safetensors");
    EXPECT_EQ(request["tokens"].get<std::vector<std::int32_t>>(), capture.i32("tokens"));
    EXPECT_EQ(request["evicted"], true);
    EXPECT_EQ(request["finish_reason"], "length");
    for (std::size_t l = 0; l < 5; ++l) {
        EXPECT_EQ(request["layers"][l]["budget"], capture.i32("layer_budget")[l]);
        EXPECT_EQ(request["layers"][l]["kept"], capture.i32("prefill_len")[l]);
        EXPECT_EQ(request["layers"][l]["digest"].size(), 4u);
        EXPECT_EQ(request["layers"][l]["digest"][0].get<std::string>().size(), 16u);
    }
    const auto kept =
        read_json_file(file("one.kept.json"))["requests"][0]["layers"].get<Positions>();
    const auto official =
        split_positions(capture.i32("prefill_positions"), capture.i32("prefill_len"), 4);
    EXPECT_EQ(difference(official, kept).different, 0);
}

TEST_F(Generate, ReportsEveryKeyOfItsContract) {
    ASSERT_EQ(run_program(generate("one")).exit_code, 0);
    const auto report = read_json_file(file("one.json"));
    auto expect_keys = [](const nlohmann::json& object, const std::vector<std::string>& keys) {
        for (const std::string& key : keys)
            EXPECT_TRUE(object.contains(key)) << key;
    };
    EXPECT_EQ(report["schema"], "cake.report/1");
    expect_keys(report, {"version", "command", "config", "model", "machine", "requests", "memory",
                         "time", "traffic", "roofline"});
    expect_keys(report["model"], {"path", "architecture", "layers", "heads", "kv_heads", "head_dim",
                                  "vocab", "dtype", "parameters"});
    expect_keys(report["machine"], {"ranks", "hosts", "backend", "device", "threads", "slurm"});
    expect_keys(report["requests"][0], {"id", "prompt_tokens", "output_tokens", "tokens", "text",
                                        "finish_reason", "evicted", "layers", "timings"});
    expect_keys(report["requests"][0]["layers"][0], {"layer", "entropy", "variance", "preference",
                                                     "budget", "kept", "bytes", "digest"});
    expect_keys(report["requests"][0]["timings"],
                {"prefill_s", "decode_s", "ttft_s", "prefill_tokens_per_s", "decode_tokens_per_s",
                 "inter_token_ms"});
    expect_keys(report["memory"], {"weights_bytes", "kv_peak_bytes", "kv_full_bytes",
                                   "workspace_bytes", "peak_rss_bytes", "device_peak_bytes"});
    for (const char* part : {"prefill", "decode"})
        expect_keys(report["time"][part],
                    {"linear_s", "attention_s", "observe_s", "evict_s", "all_reduce_s", "other_s"});
    expect_keys(report["traffic"], {"all_reduce_calls", "all_reduce_bytes", "statistics_bytes"});
    expect_keys(report["roofline"], {"bytes_per_token", "achieved_gb_s", "peak_gb_s", "flops",
                                     "achieved_tflop_s", "peak_tflop_s"});
    EXPECT_EQ(report["config"]["policy"]["tau1"], 1.6);
    EXPECT_EQ(report["config"]["policy"]["gamma"], 200) << "what the policy's row says is resolved";
}

TEST_F(Generate, GivesTheSameOnEveryNumberOfRanksAndDiffShowsIt) {
    ASSERT_EQ(run_program(generate("one")).exit_code, 0);
    for (int ranks : {2, 3}) {
        const std::string name = std::to_string(ranks);
        const ProgramResult r = run_program_on_ranks(ranks, generate(name));
        ASSERT_EQ(r.exit_code, 0) << r.err;
        const ProgramResult d = run_program({"diff", file("one.json"), file(name + ".json")});
        EXPECT_EQ(d.exit_code, 0) << d.out;
        EXPECT_EQ(d.out, "equal\n");
    }
    ASSERT_EQ(run_program(generate("other", {"--cache-size", "64"})).exit_code, 0);
    const ProgramResult d = run_program({"diff", file("one.json"), file("other.json")});
    EXPECT_EQ(d.exit_code, 1);
    EXPECT_THAT(d.out, HasSubstr("request 0, layer 0: budgets"));
    EXPECT_THAT(d.out, HasSubstr("kept tokens differ"));
    std::vector<std::string> tolerant{"diff",
                                      file("one.json"),
                                      file("other.json"),
                                      "--budget-tolerance",
                                      "1000",
                                      "--kept-tolerance",
                                      "1",
                                      "--kept-a",
                                      file("one.kept.json"),
                                      "--kept-b",
                                      file("other.kept.json")};
    const std::string tokens = run_program(tolerant).out;  // the tokens that came of it may differ
    EXPECT_TRUE(tokens == "equal\n" || tokens.find("request 0: output tokens differ") == 0)
        << tokens;
    tolerant.push_back("--any-tokens");
    EXPECT_EQ(run_program(tolerant).out, "equal\n");
    EXPECT_EQ(
        run_program({"diff", file("one.json"), file("one.json"), "--kept-a", file("one.kept.json")})
            .exit_code,
        2);
}

TEST_F(Generate, PlansWhatARunThenReports) {
    for (int ranks : {1, 3}) {
        const std::string name = "r" + std::to_string(ranks);
        ASSERT_EQ(run_program_on_ranks(ranks, generate(name)).exit_code, 0);
        const ProgramResult p =
            run_program({"plan", "--model", model + "/config.json", "--ranks",
                         std::to_string(ranks), "--prompt-length", "300", "--max-new-tokens", "32",
                         "--cache-size", "96", "--window", "16", "--json"});
        ASSERT_EQ(p.exit_code, 0) << p.err;
        const auto plan = nlohmann::json::parse(p.out);
        const auto memory = read_json_file(file(name + ".json"))["memory"];
        for (int r = 0; r < ranks; ++r) {
            const auto& planned = plan["ranks"][r];
            auto near = [&](double x, double y, const char* what) {
                EXPECT_NEAR(x / y, 1, 0.05) << what << ", rank " << r;
            };
            near(planned["weights_bytes"], memory["weights_bytes"][r], "weights");
            near(planned["kv_peak_bytes"], memory["kv_peak_bytes"][r], "KV peak");
            near(planned["kv_full_bytes"], memory["kv_full_bytes"][r], "full cache");
            near(planned["workspace_bytes"].get<double>() +
                     planned["residual_bytes"].get<double>() +
                     planned["logits_bytes"].get<double>(),
                 memory["workspace_bytes"][r], "workspace");
        }
        const auto traffic = read_json_file(file(name + ".json"))["traffic"];
        EXPECT_EQ(traffic["all_reduce_calls"],
                  plan["traffic"]["prefill_all_reduces"].get<int>() +
                      31 * plan["traffic"]["all_reduces_per_token"].get<int>());
    }
}

TEST_F(Generate, SaysWhatIsWrongWithWhatItIsGiven) {
    const std::vector<std::string> prompt{"--prompt-tokens", file("prompt.json")};
    auto run = [&](std::vector<std::string> args) {
        args.insert(args.begin(), "generate");
        return run_program(args);
    };
    expect_usage_error(run({"--model", file("nothing"), "--prompt", "hi"}), file("nothing"));
    expect_usage_error(run({"--prompt", "hi"}), "a model is missing");
    expect_usage_error(run({"--model", model, "--prompt-tokens", file("none.json")}), "none.json");
    expect_usage_error(
        run({"--model", model, "--prompt-tokens", file("prompt.json"), "--cache-size", "32"}),
        "cache_size");
    expect_usage_error(
        run({"--model", model, "--prompt-tokens", file("prompt.json"), "--policy", "kake"}),
        "kake");
    expect_usage_error(
        run({"--model", model, "--prompt-tokens", file("prompt.json"), "--frobnicate"}),
        "--frobnicate");
    expect_usage_error(
        run({"--model", model, "--prompt-tokens", file("prompt.json"), "--backend", "cuda"}),
        "CUDA");
    expect_usage_error(run({"--model", model, "--prompt-tokens", file("prompt.json"), "--report",
                            file("no/such/r.json")}),
                       "cannot be written");
    std::ofstream(file("c.yaml")) << "policy:\n  cach_size: 3\n";
    expect_usage_error(run({"--config", file("c.yaml"), "--model", model}), "c.yaml:2");
    expect_usage_error(run({"--config", file("c.yaml"), "--model", model}), "policy.cache_size");
    std::ofstream(file("long.json")) << nlohmann::json(std::vector<int>(3000, 1));
    expect_usage_error(run({"--model", model, "--prompt-tokens", file("long.json")}),
                       "the model's context 2048");
    std::ofstream(file("empty.json")) << "[]";
    expect_usage_error(run({"--model", model, "--prompt-tokens", file("empty.json")}),
                       "the prompt is empty");
    std::ofstream(file("big.json")) << "[1, 512]";
    expect_usage_error(run({"--model", model, "--prompt-tokens", file("big.json")}), "512");
}

TEST_F(Generate, RefusesAModelThatCannotBeRead) {
    std::filesystem::create_directories(file("cut"));
    std::filesystem::copy(model + "/config.json", file("cut/config.json"));
    std::ifstream in(model + "/model.safetensors", std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), {});
    std::ofstream(file("cut/model.safetensors"), std::ios::binary)
        << bytes.substr(0, bytes.size() / 2);
    const std::vector<std::string> args{"generate", "--model", file("cut"), "--prompt-tokens",
                                        file("prompt.json")};
    expect_usage_error(run_program(args), "model.safetensors");
    expect_usage_error(run_program_on_ranks(2, args), "model.safetensors");
}

TEST_F(Generate, RefusesATruncatedGguf) {
    const char* path = std::getenv("CAKE_TEST_MODEL");
    if (!path || !std::filesystem::exists(path))
        GTEST_SKIP() << "CAKE_TEST_MODEL names no GGUF file";
    std::ifstream in(path, std::ios::binary);
    std::string bytes(10000000, ' ');
    in.read(bytes.data(), std::streamsize(bytes.size()));
    std::ofstream(file("cut.gguf"), std::ios::binary) << bytes;
    expect_usage_error(run_program({"generate", "--model", file("cut.gguf"), "--prompt", "hi"}),
                       "cut.gguf");
}

TEST_F(Generate, SaysWhenItsOutputIsLost) {
    std::vector<std::string> args = generate("one");
    std::string command = std::getenv("CAKE_PROGRAM");
    for (const std::string& a : args)
        command += " '" + a + "'";
    const int status = std::system((command + " >/dev/full 2>/dev/null").c_str());
    EXPECT_EQ(WEXITSTATUS(status), 1);
}

TEST_F(Generate, SaysThatMemoryIsTooSmallBeforeItLoads) {
    // A model of the right shape, but for a context that needs more than any machine has: nothing of it is read.
    auto config = read_json_file(model + "/config.json");
    config["max_position_embeddings"] = 100000000;
    config["num_hidden_layers"] = 1000;
    std::ofstream(file("config.json")) << config;
    std::ofstream(file("ids.json")) << nlohmann::json(std::vector<int>(4000000, 1));
    const ProgramResult r =
        run_program({"generate", "--model", folder.string(), "--policy", "full", "--prompt-tokens",
                     file("ids.json"), "--max-new-tokens", "1"});
    expect_usage_error(r, "is free");
    EXPECT_THAT(r.err, HasSubstr("kept cache"));
}

TEST_F(Generate, RefusesTooManyRanksOnceAndEndsAll) {
    expect_usage_error(run_program_on_ranks(9, generate("nine")), "9 ranks are too many");
}

TEST_F(Generate, OneRankThatFailsAtStartUpEndsAllWithinFiveSeconds) {
    const auto begin = std::chrono::steady_clock::now();
    // Rank 0 alone reads the prompt; the other two wait for it.
    const ProgramResult r = run_program_on_ranks(
        3, {"generate", "--model", model, "--prompt-tokens", file("none.json")});
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    expect_usage_error(r, "none.json");
    EXPECT_LT(took.count(), 5);
}

}  // namespace
}  // namespace cake::test
