// `cake batch` as its users run it: every job gets one result, whatever happens in between.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <sys/stat.h>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/json_file.h"
#include "support/golden.h"
#include "support/run_program.h"

namespace cake::test {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

class Batch : public testing::Test {
protected:
    std::filesystem::path folder =
        std::filesystem::path(testing::TempDir()) /
        ("cake_batch_" +
         std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::string model = golden_path("tiny-llama") + "/model";

    void SetUp() override {
        std::filesystem::remove_all(folder);
        std::filesystem::create_directories(folder);
    }
    void TearDown() override { std::filesystem::remove_all(folder); }
    std::string file(const std::string& name) const { return (folder / name).string(); }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(file(name), std::ios::binary) << text;
    }
    std::string read(const std::string& name) const {
        std::ifstream in(file(name), std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }

    // Job i: a prompt of its own, of 20 to 300 tokens.
    static json job(int i, int new_tokens) {
        std::vector<TokenId> prompt = Golden("tiny-llama").prompt("p300");
        prompt.resize(std::size_t(20 + i * 37 % 281));
        prompt[0] = i + 1;
        return {{"id", "job" + std::to_string(i)},
                {"tokens", prompt},
                {"max_new_tokens", new_tokens + i % 7}};
    }
    void write_jobs(int n, int new_tokens) const {
        std::string lines;
        for (int i = 0; i < n; ++i)
            lines += job(i, new_tokens).dump() + "\n";
        write("jobs.jsonl", lines);
    }

    std::vector<std::string> batch(const std::string& output, std::vector<std::string> more = {}) {
        std::vector<std::string> args{
            "batch",    "--model",    model,          "--input", file("jobs.jsonl"),
            "--output", file(output), "--cache-size", "64",      "--window",
            "16",       "--quiet"};
        args.insert(args.end(), more.begin(), more.end());
        return args;
    }

    // When a program that writes there is at work.
    std::function<bool(double)> has_results(const std::string& output) const {
        return [this, output](double) { return !read(output).empty(); };
    }
    static std::function<bool(double)> after(double s) {
        return [s](double seconds) { return seconds >= s; };
    }

    // By id; a line that is no result, or an id that is there twice, is a failure.
    std::map<std::string, json> results(const std::string& text) const {
        std::map<std::string, json> out;
        std::istringstream lines(text);
        for (std::string line; std::getline(lines, line);) {
            const json result = json::parse(line);
            EXPECT_TRUE(out.emplace(result["id"], result).second) << result["id"] << " twice";
        }
        return out;
    }
    std::map<std::string, std::vector<TokenId>> tokens(const std::string& output) const {
        std::map<std::string, std::vector<TokenId>> out;
        for (const auto& [id, result] : results(read(output)))
            out[id] = result["tokens"].get<std::vector<TokenId>>();
        return out;
    }
};

TEST_F(Batch, GivesEachJobTheTokensOfGenerate) {
    write_jobs(6, 9);
    const ProgramResult r = run_program(batch("out.jsonl", {"--layers"}));
    ASSERT_EQ(r.exit_code, 0) << r.err;
    EXPECT_EQ(r.out, "");
    const auto all = results(read("out.jsonl"));
    ASSERT_EQ(all.size(), 6u);
    for (int i = 0; i < 6; ++i) {
        const json j = job(i, 9);
        write("prompt.json", j["tokens"].dump());
        const ProgramResult one =
            run_program({"generate", "--model", model, "--prompt-tokens", file("prompt.json"),
                         "--cache-size", "64", "--window", "16", "--max-new-tokens",
                         j["max_new_tokens"].dump(), "--report", file("report.json"), "--quiet"});
        ASSERT_EQ(one.exit_code, 0) << one.err;
        const json expected = read_json_file(file("report.json"))["requests"][0];
        const json& result = all.at(j["id"]);
        for (const char* key :
             {"tokens", "prompt_tokens", "output_tokens", "finish_reason", "layers", "evicted"})
            EXPECT_EQ(result[key], expected[key]) << j["id"] << " " << key;
        EXPECT_EQ(result["policy"], "cake");
        EXPECT_GT(result["timings"]["prefill_s"], 0);
    }
}

TEST_F(Batch, GivesTheSameAtEveryBatchNumberOfRanksAndReplicas) {
    write_jobs(12, 6);
    ASSERT_EQ(run_program(batch("one.jsonl", {"--max-batch", "1"})).exit_code, 0);
    const auto expected = tokens("one.jsonl");
    ASSERT_EQ(expected.size(), 12u);
    ASSERT_EQ(run_program(batch("eight.jsonl", {"--max-batch", "8"})).exit_code, 0);
    EXPECT_EQ(tokens("eight.jsonl"), expected);
    for (const auto& [ranks, tensor] : {std::pair{2, 2}, {2, 1}, {3, 1}, {3, 3}, {4, 2}}) {
        const std::string out = fmt::format("r{}t{}.jsonl", ranks, tensor);
        const ProgramResult r = run_program_on_ranks(
            ranks, batch(out, {"--set", fmt::format("parallel.tensor={}", tensor), "--check"}));
        ASSERT_EQ(r.exit_code, 0) << r.err;
        EXPECT_EQ(tokens(out), expected) << ranks << " ranks, " << tensor << " in a replica";
    }
}

TEST_F(Batch, SaysOfEachBadLineWhatIsWrongAndGoesOn) {
    std::string long_prompt = "1";
    for (int i = 0; i < 2048; ++i)
        long_prompt += ",1";
    write("jobs.jsonl", job(0, 3).dump() + "\n\n" +                      // 1, and an empty line
                            "[1, 2]\n" +                                 // 3
                            R"({"id": "no prompt"})" + "\n" +            // 4
                            R"({"id": "job0", "tokens": [1]})" + "\n" +  // 5
                            "{\"id\": \"\xff\", \"tokens\": [1]}\n" +    // 6
                            R"({"id": "long", "tokens": [)" + long_prompt + "]}\n" +     // 7
                            R"({"id": "key", "tokens": [1], "max_tokens": 2})" + "\n" +  // 8
                            R"({"id": "foreign", "tokens": [512]})" + "\n" +             // 9
                            R"({"id": "cut", "tok)" + "\n" +                             // 10
                            job(1, 3).dump() + "\n");                                    // 11
    const ProgramResult r = run_program(batch("out.jsonl"));
    EXPECT_EQ(r.exit_code, 3) << r.err;
    auto all = results(read("out.jsonl"));
    const auto error = [&](const std::string& id) {
        const json result = all[id];
        EXPECT_EQ(result.value("finish_reason", ""), "error") << id;
        return result.value("error", "");
    };
    EXPECT_EQ(all.size(), 10u);
    EXPECT_EQ(all["job0"]["output_tokens"], 3);
    EXPECT_EQ(all["job1"]["output_tokens"], 4);
    EXPECT_THAT(error("line 3"), HasSubstr("jobs.jsonl:3: the line is a list"));
    EXPECT_THAT(error("no prompt"), HasSubstr("jobs.jsonl:4: prompt is missing"));
    EXPECT_THAT(error("line 5"), HasSubstr("jobs.jsonl:5: id 'job0' was given to a line before"));
    EXPECT_THAT(error("line 6"), HasSubstr("jobs.jsonl:6:"));
    EXPECT_THAT(error("long"), HasSubstr("jobs.jsonl:7: the prompt has 2049 tokens, the model's "
                                         "context 2048"));
    EXPECT_THAT(error("key"), HasSubstr("jobs.jsonl:8: unknown key 'max_tokens'"));
    EXPECT_THAT(error("foreign"), HasSubstr("jobs.jsonl:9: token 512 is not an id from 0 to 511"));
    EXPECT_THAT(error("line 10"), HasSubstr("jobs.jsonl:10:"));
    // Failed jobs have results too: nothing is left to do, and it is still said that some failed.
    const ProgramResult again = run_program(batch("out.jsonl", {"--report", file("report.json")}));
    EXPECT_EQ(again.exit_code, 3) << again.err;
    EXPECT_EQ(results(read("out.jsonl")).size(), 10u);
    const json report = read_json_file(file("report.json"));
    EXPECT_EQ(report["summary"]["jobs"], 0);
    EXPECT_EQ(report["summary"]["done_before"], 10);
    EXPECT_EQ(report["time"], nullptr);
}

TEST_F(Batch, ReadsALineOfAMegabyte) {
    json j = job(0, 3);
    std::string spaces(1 << 20, ' ');
    write("jobs.jsonl", "{" + spaces + j.dump().substr(1) + "\n" + job(1, 3).dump());
    const ProgramResult r = run_program(batch("out.jsonl"));
    EXPECT_EQ(r.exit_code, 0) << r.err;
    EXPECT_EQ(results(read("out.jsonl")).size(), 2u);
}

TEST_F(Batch, GoesOnWhereItStoppedAndDoesAHalfWrittenLineAgain) {
    write_jobs(5, 4);
    ASSERT_EQ(run_program(batch("whole.jsonl")).exit_code, 0);
    const std::string whole = read("whole.jsonl");
    const std::size_t second = whole.find('\n', whole.find('\n') + 1) + 1;
    write("out.jsonl", whole.substr(0, second + 40));
    const ProgramResult r = run_program(batch("out.jsonl"));
    ASSERT_EQ(r.exit_code, 0) << r.err;
    EXPECT_THAT(read("out.jsonl"), testing::StartsWith(whole.substr(0, second)));
    EXPECT_EQ(tokens("out.jsonl"), tokens("whole.jsonl"));
}

TEST_F(Batch, RefusesResultsOfAnotherConfiguration) {
    write_jobs(3, 4);
    ASSERT_EQ(run_program(batch("out.jsonl")).exit_code, 0);
    const std::string before = read("out.jsonl");
    write_jobs(4, 4);
    const ProgramResult r = run_program(batch("out.jsonl", {"--policy", "snapkv"}));
    EXPECT_EQ(r.exit_code, 2);
    EXPECT_THAT(r.err, HasSubstr("made with another configuration"));
    EXPECT_EQ(read("out.jsonl"), before);
    // What does not change answers does not count.
    EXPECT_EQ(run_program(batch("out.jsonl", {"--max-batch", "2", "--threads", "1"})).exit_code, 0);
    EXPECT_EQ(results(read("out.jsonl")).size(), 4u);
    write_jobs(5, 4);
    EXPECT_EQ(run_program(batch("out.jsonl", {"--policy", "snapkv", "--append-anyway"})).exit_code,
              0);
    EXPECT_EQ(results(read("out.jsonl"))["job4"]["policy"], "snapkv");
}

TEST_F(Batch, ReadsStandardInputAndWritesStandardOutput) {
    std::vector<std::string> args = batch("unused");
    args[4] = "-";
    args[6] = "-";
    for (int ranks : {1, 2}) {
        const std::string jobs = job(0, 4).dump() + "\n" + job(1, 4).dump();
        const ProgramResult r = ranks == 1 ? run_program(args, {.input = jobs})
                                           : run_program_on_ranks(ranks, args, {.input = jobs});
        ASSERT_EQ(r.exit_code, 0) << r.err;
        EXPECT_EQ(results(r.out).size(), 2u);
    }
}

TEST_F(Batch, ReportsItsNumbers) {
    write_jobs(6, 9);
    const ProgramResult r = run_program_on_ranks(
        2, batch("out.jsonl", {"--report", file("report.json"), "--set", "parallel.tensor=1"}));
    ASSERT_EQ(r.exit_code, 0) << r.err;
    const json report = read_json_file(file("report.json"));
    const json& s = report["summary"];
    std::int64_t prompt = 0, output = 0;
    for (int i = 0; i < 6; ++i) {
        prompt += std::int64_t(job(i, 9)["tokens"].size());
        output += job(i, 9)["max_new_tokens"].get<int>();
    }
    EXPECT_EQ(s["jobs"], 6);
    EXPECT_EQ(s["failed"], 0);
    EXPECT_EQ(s["prompt_tokens"], prompt);
    EXPECT_EQ(s["output_tokens"], output);
    EXPECT_GT(s["output_tokens_per_s"], 0);
    for (const char* key : {"ttft_s", "inter_token_ms"}) {
        EXPECT_GT(s[key]["p50"], 0) << key;
        EXPECT_LE(s[key]["p50"], s[key]["p90"]) << key;
        EXPECT_LE(s[key]["p90"], s[key]["p99"]) << key;
    }
    EXPECT_GT(s["kv_peak_bytes"], 0);
    EXPECT_GT(s["kv_full_bytes"], 0);
    EXPECT_LE(s["time_share"]["prefill"].get<double>() + s["time_share"]["decode"].get<double>(),
              1.01);
    EXPECT_EQ(report["requests"].size(), 6u);
    EXPECT_EQ(report["machine"]["ranks"], 2);
    EXPECT_EQ(report["memory"]["weights_bytes"].size(), 2u);
    EXPECT_EQ(report["command"], "batch");
}

TEST_F(Batch, ReportsOfTwoNumbersOfRanksAreEqualToDiff) {
    write_jobs(5, 6);
    ASSERT_EQ(run_program(batch("a.jsonl", {"--layers", "--report", file("a.json")})).exit_code, 0);
    ASSERT_EQ(run_program_on_ranks(
                  2, batch("b.jsonl", {"--layers", "--max-batch", "2", "--report", file("b.json")}))
                  .exit_code,
              0);
    const ProgramResult r = run_program({"diff", file("a.json"), file("b.json")});
    EXPECT_EQ(r.exit_code, 0) << r.out << r.err;
}

TEST_F(Batch, SaysWhichJobsThePoolHasNoRoomFor) {
    write("jobs.jsonl", job(0, 3).dump() + "\n" + job(7, 3).dump() + "\n");  // 20 and 279 tokens
    const ProgramResult r =
        run_program(batch("out.jsonl", {"--policy", "full", "--set", "engine.kv_bytes=400KiB"}));
    EXPECT_EQ(r.exit_code, 3) << r.err;
    EXPECT_THAT(r.err, HasSubstr("job job7: line 2: prompt and answer of 279 + 3 tokens need 850.0 "
                                 "KiB of cache on a rank, and the pool has 374.0 KiB"));
    auto all = results(read("out.jsonl"));
    EXPECT_EQ(all.at("job0")["output_tokens"], 3);
    EXPECT_FALSE(all.contains("job7"));  // with more room another start does it
    EXPECT_EQ(run_program(batch("out.jsonl", {"--policy", "full"})).exit_code, 0);
    all = results(read("out.jsonl"));
    EXPECT_EQ(all.at("job7")["output_tokens"], 3);
}

TEST_F(Batch, RefusesTheJobThatMemoryHasNoRoomForAndDoesTheOthers) {
    // A model whose context is far longer than any memory.
    std::filesystem::create_directories(file("model"));
    for (const char* name : {"config.json", "model.safetensors", "generation_config.json"})
        std::filesystem::copy(model + "/" + name, file("model"));
    json config = read_json_file(file("model/config.json"));
    config["max_position_embeddings"] = 1 << 27;
    write("model/config.json", config.dump());
    model = file("model");
    json large = job(1, 3);
    large["max_new_tokens"] = 1 << 26;
    write("jobs.jsonl", large.dump() + "\n" + job(0, 3).dump() + "\n");
    const ProgramResult r = run_program(batch("out.jsonl", {"--policy", "full"}));
    EXPECT_EQ(r.exit_code, 3) << r.err;
    EXPECT_THAT(r.err, HasSubstr("job job1: line 1: prompt and answer of"));
    EXPECT_EQ(results(read("out.jsonl")).at("job0")["output_tokens"], 3);
}

TEST_F(Batch, RefusesRanksThatFormNoReplicas) {
    write_jobs(1, 3);
    const ProgramResult r =
        run_program_on_ranks(3, batch("out.jsonl", {"--set", "parallel.tensor=2"}));
    EXPECT_EQ(r.exit_code, 2);
    EXPECT_THAT(r.err, HasSubstr("3 ranks do not form replicas of 2"));
    EXPECT_FALSE(std::filesystem::exists(file("out.jsonl")));
}

TEST_F(Batch, EndsInGoodOrderOnASignalAndGoesOnLater) {
    write_jobs(40, 240);
    ASSERT_EQ(run_program(batch("whole.jsonl")).exit_code, 0);
    struct Case {
        int ranks;
        std::string tensor;
        int signal;
    };
    for (const auto& [ranks, tensor, signal] :
         {Case{1, "all", SIGTERM}, {1, "all", SIGUSR1}, {2, "all", SIGUSR1}, {2, "1", SIGUSR1}}) {
        std::filesystem::remove(file("out.jsonl"));
        const ProgramOptions options{.signals = {{has_results("out.jsonl"), signal}}};
        const auto args = batch("out.jsonl", {"--set", "parallel.tensor=" + tensor});
        const ProgramResult r =
            ranks == 1 ? run_program(args, options) : run_program_on_ranks(ranks, args, options);
        EXPECT_EQ(r.exit_code, 75) << r.err;
        const auto before = tokens("out.jsonl");
        EXPECT_LT(before.size(), 40u);
        EXPECT_THAT(r.err, HasSubstr("start again with the same files to go on"));
        EXPECT_EQ(run_program(batch("out.jsonl")).exit_code, 0);
        EXPECT_EQ(tokens("out.jsonl"), tokens("whole.jsonl"));
    }
}

TEST_F(Batch, EndsInGoodOrderWhenItsScriptIsTerminated) {
    write_jobs(40, 240);
    auto args = batch("out.jsonl");
    args.insert(args.begin(), {CAKE_SOURCE_DIR "/launch/mpirun.sh", "2"});
    const ProgramResult r = run_command(
        args,
        {.environment = {{"CAKE_BIN", std::getenv("CAKE_PROGRAM")}, {"CAKE_OVERSUBSCRIBE", "1"}},
         .signals = {{has_results("out.jsonl"), SIGTERM}}});
    EXPECT_EQ(r.exit_code, 75) << r.err;
    EXPECT_THAT(r.err, HasSubstr("start again with the same files to go on"));
    EXPECT_LT(tokens("out.jsonl").size(), 40u);
}

TEST_F(Batch, EndsAtOnceOnASecondSignal) {
    // Its jobs never come, so the first signal alone would not end it.
    std::vector<std::string> args = batch("out.jsonl");
    args[4] = file("jobs.fifo");
    ASSERT_EQ(mkfifo(args[4].c_str(), 0600), 0);
    const ProgramResult r = run_program(
        args, {.timeout_s = 20, .signals = {{after(0.5), SIGTERM}, {after(1.0), SIGTERM}}});
    EXPECT_FALSE(r.timed_out);
    EXPECT_EQ(r.exit_code, 75) << r.err;
}

// Ranks that outlive their mpirun for a moment hold the file's lock: then it is tried again.
ProgramResult run_when_free(int ranks, const std::vector<std::string>& args,
                            const ProgramOptions& options) {
    for (;;) {
        const ProgramResult r =
            ranks == 1 ? run_program(args, options) : run_program_on_ranks(ranks, args, options);
        if (r.err.find("another running job") == std::string::npos)
            return r;
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
}

TEST_F(Batch, LosesNoJobAndRepeatsNoneHoweverOftenItIsKilled) {
    write_jobs(30, 60);
    ASSERT_EQ(run_program(batch("quiet.jsonl")).exit_code, 0);
    std::mt19937 random(7);
    int interrupted = 0;
    for (int kill = 0; kill < 20; ++kill) {
        if (kill % 5 == 0)
            std::filesystem::remove(file("out.jsonl"));  // four rounds of five kills
        const int ranks = kill % 2 + 1;
        const double after_s = 0.05 + double(random() % 400) / 1000;
        const ProgramResult r = run_when_free(ranks, batch("out.jsonl"), {.timeout_s = after_s});
        interrupted += r.timed_out;
        EXPECT_TRUE(r.timed_out || r.exit_code == 0) << r.err;
        if (kill % 5 == 4) {
            const ProgramResult last = run_when_free(1, batch("out.jsonl"), {});
            ASSERT_EQ(last.exit_code, 0) << last.err;
            EXPECT_EQ(tokens("out.jsonl"), tokens("quiet.jsonl"));
        }
    }
    EXPECT_GT(interrupted, 5);
}

}  // namespace
}  // namespace cake::test
