// `cake batch` with a real tokenizer: chat template, stop texts, ends of sequence, sampling of each job.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <unistd.h>

#include <gtest/gtest.h>

#include "io/json_file.h"
#include "support/run_program.h"

namespace cake::test {
namespace {

using nlohmann::json;

class BatchText : public testing::Test {
protected:
    // Tests of this fixture run beside each other.
    std::filesystem::path folder =
        std::filesystem::path(testing::TempDir()) / ("cake_batch_text_" + std::to_string(getpid()));
    std::string model;

    void SetUp() override {
        const char* path = std::getenv("CAKE_TEST_MODEL");
        if (!path || !std::filesystem::exists(path))
            GTEST_SKIP() << "CAKE_TEST_MODEL names no GGUF file";
        model = path;
        std::filesystem::remove_all(folder);
        std::filesystem::create_directories(folder);
    }
    void TearDown() override { std::filesystem::remove_all(folder); }
    std::string file(const std::string& name) const { return (folder / name).string(); }

    std::map<std::string, json> run(int ranks, const std::vector<json>& jobs,
                                    std::vector<std::string> more = {}) {
        const std::string output = file(std::to_string(ranks) + ".jsonl");
        std::filesystem::remove(output);
        std::ofstream in(file("jobs.jsonl"));
        for (const json& job : jobs)
            in << job.dump() << "\n";
        in.close();
        std::vector<std::string> args{
            "batch", "--model",          model, "--input", file("jobs.jsonl"), "--output",
            output,  "--max-new-tokens", "24",  "--quiet"};
        args.insert(args.end(), more.begin(), more.end());
        const ProgramResult r = ranks == 1 ? run_program(args) : run_program_on_ranks(ranks, args);
        EXPECT_EQ(r.exit_code, 0) << r.err;
        std::map<std::string, json> out;
        std::ifstream results(output);
        for (std::string line; std::getline(results, line);) {
            const json result = json::parse(line);
            out[result["id"]] = result;
        }
        return out;
    }
};

TEST_F(BatchText, AnswersJobsAsTheyAsk) {
    const std::string question = "What is the capital of France?";
    const std::vector<json> jobs{
        {{"id", "plain"}, {"prompt", question}},
        // "Paris" is one token or two: a stop text may end within what several tokens spell.
        {{"id", "stop"}, {"prompt", question}, {"stop", "France is Par"}},
        {{"id", "short"}, {"prompt", question}, {"max_new_tokens", 3}},
        {{"id", "warm"}, {"prompt", "Write a line."}, {"temperature", 1.5}, {"seed", 1}},
        {{"id", "warm again"}, {"prompt", "Write a line."}, {"temperature", 1.5}, {"seed", 1}},
        {{"id", "other seed"}, {"prompt", "Write a line."}, {"temperature", 1.5}, {"seed", 2}}};
    auto one = run(1, jobs, {"--logprobs", "2"});
    EXPECT_EQ(one["plain"]["text"], "The capital of France is Paris.");
    EXPECT_EQ(one["plain"]["finish_reason"], "stop");  // its end of sequence
    EXPECT_EQ(one["stop"]["text"], "The capital of ");
    EXPECT_EQ(one["stop"]["finish_reason"], "stop");
    EXPECT_EQ(one["short"]["output_tokens"], 3);
    EXPECT_EQ(one["short"]["finish_reason"], "length");
    EXPECT_EQ(one["warm"]["tokens"], one["warm again"]["tokens"]);
    EXPECT_NE(one["warm"]["tokens"], one["other seed"]["tokens"]);
    EXPECT_EQ(one["short"]["logprobs"].size(), 3u);
    EXPECT_EQ(one["short"]["logprobs"][0]["top"].size(), 2u);

    // Two replicas, whose jobs and results travel.
    auto two = run(2, jobs, {"--logprobs", "2", "--set", "parallel.tensor=1", "--threads", "2"});
    ASSERT_EQ(two.size(), jobs.size());
    for (const auto& [id, result] : one)
        for (const char* key : {"text", "tokens", "finish_reason", "prompt_tokens", "logprobs"})
            EXPECT_EQ(two[id][key], result[key]) << id << " " << key;
}

TEST_F(BatchText, GoesOnBehindTheEndOfSequenceIfAsked) {
    const auto all = run(1, {{{"id", "a"}, {"prompt", "Say yes."}}}, {"--ignore-eos"});
    EXPECT_EQ(all.at("a")["output_tokens"], 24);
    EXPECT_EQ(all.at("a")["finish_reason"], "length");
}

}  // namespace
}  // namespace cake::test
