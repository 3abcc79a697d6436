// `cake batch` as its users run it: every job gets one result, whatever happens in between.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/batch_fixture.h"

namespace cake::test {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

class Batch : public BatchFixture {};

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

}  // namespace
}  // namespace cake::test
