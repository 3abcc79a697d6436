// `cake eval needle`, as a user runs it, on a tiny model whose tokens are bytes.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include <gmock/gmock.h>

#include "io/json_file.h"
#include "support/golden.h"
#include "support/run_program.h"
#include "support/temp_folder.h"
#include "text/small_tokenizers.h"

namespace cake::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

class EvalNeedle : public testing::Test {
protected:
    TempFolder folder;
    std::string text = folder.write("text.txt", sentences(400));
    std::string output = folder.file("out");

    void SetUp() override {
        for (const char* name : {"config.json", "model.safetensors"})
            std::filesystem::copy_file(golden_model("tiny-llama") + "/" + name, folder.file(name));
        folder.write("tokenizer.json", byte_tokenizer().dump());
    }
    static std::string sentences(int n) {
        std::string out;
        for (int i = 0; i < n; ++i)
            out += "Sentence " + std::to_string(i) + " says little.\n";
        return out;
    }

    // A study of 2 policies and 6 prompts; what `more` says wins.
    std::vector<std::string> study(std::vector<std::string> more = {}) const {
        std::vector<std::string> args{"eval",    "needle",     "--model",   folder.path(),
                                      "--text",  text,         "--output",  output,
                                      "--quiet", "--policies", "full,cake", "--cache-sizes",
                                      "64",      "--window",   "16",        "--lengths",
                                      "500,700", "--depths",   "0,50,100",  "--max-new-tokens",
                                      "8"};
        args.insert(args.end(), more.begin(), more.end());
        return args;
    }
    std::string csv() const { return read_file(output + "/needle.csv"); }
    // Results by id, each there once.
    std::map<std::string, json> results(const std::string& policy) const {
        std::map<std::string, json> out;
        std::istringstream lines(read_file(output + "/" + policy + "/results.jsonl"));
        for (std::string line; std::getline(lines, line);) {
            const json result = json::parse(line);
            EXPECT_TRUE(out.emplace(result["id"], result).second) << result["id"] << " twice";
        }
        return out;
    }
    void expect_refusal(std::vector<std::string> more, const std::string& message) const {
        const ProgramResult r = run_program(study(std::move(more)));
        EXPECT_EQ(r.exit_code, 2) << message;
        EXPECT_THAT(r.err, HasSubstr(message));
        EXPECT_EQ(std::ranges::count(r.err, '\n'), 1) << r.err;
        EXPECT_EQ(r.out, "");
    }
};

TEST_F(EvalNeedle, GivesTheSameAnswersOnAnyNumberOfRanks) {
    const std::string first_csv = [&] {
        const ProgramResult r = run_program(study());
        EXPECT_EQ(r.exit_code, 0) << r.err;
        EXPECT_THAT(r.out,
                    HasSubstr("| policy | C | form | needles | length | 0 % deep | 50 % deep "
                              "| 100 % deep | mean |\n"));
        EXPECT_THAT(r.out, HasSubstr("\n| full | - | single | 1 | 500 | "));
        EXPECT_THAT(r.out, HasSubstr("\n| cake | 64 | single | 1 | 700 | "));
        return csv();
    }();
    EXPECT_THAT(first_csv, HasSubstr("\nfull,0,single,500,0,1,1,0.0"));
    const auto full = results("full"), cake = results("cake-64");
    EXPECT_EQ(full.size(), 6u);
    EXPECT_EQ(full.at("single/700/1/50/0")["evicted"], false);
    EXPECT_EQ(cake.at("single/700/1/50/0")["evicted"], true);
    const int prompt_tokens = cake.at("single/700/1/50/0")["prompt_tokens"];
    EXPECT_LE(prompt_tokens, 700);
    EXPECT_GT(prompt_tokens, 700 - 30);
    for (int ranks : {2, 3}) {
        std::filesystem::remove_all(output);
        const ProgramResult r = run_program_on_ranks(ranks, study());
        EXPECT_EQ(r.exit_code, 0) << r.err;
        EXPECT_EQ(csv(), first_csv);
        for (const auto& [id, result] : results("cake-64"))
            EXPECT_EQ(result["tokens"], cake.at(id)["tokens"]) << id << " on " << ranks;
        EXPECT_EQ(results("cake-64").size(), 6u);
    }
}

TEST_F(EvalNeedle, GoesOnWhereItStoppedAndMayBeWidened) {
    ASSERT_EQ(run_program(study()).exit_code, 0);
    const std::string before_csv = csv(), journal = output + "/cake-64/results.jsonl";
    const std::string before = read_file(journal);
    const std::size_t last = before.rfind('\n', before.size() - 2) + 1;
    std::filesystem::resize_file(journal, last + 5);  // as a job that was killed leaves it
    ASSERT_EQ(run_program(study()).exit_code, 0);
    EXPECT_THAT(read_file(journal), StartsWith(before.substr(0, last)));
    EXPECT_EQ(results("cake-64").size(), 6u);
    EXPECT_EQ(csv(), before_csv);

    const std::string all_done = read_file(journal);
    ASSERT_EQ(run_program(study()).exit_code, 0);
    EXPECT_EQ(read_file(journal), all_done);
    ASSERT_EQ(run_program(study({"--depths", "0,20,50,100"})).exit_code, 0);
    EXPECT_THAT(read_file(journal), StartsWith(all_done));
    EXPECT_EQ(results("cake-64").size(), 8u);
    EXPECT_THAT(csv(), HasSubstr("\ncake,64,single,700,20,1,1,"));
}

TEST_F(EvalNeedle, StopsAtASignalAndGoesOn) {
    const auto many = study({"--trials", "40", "--policies", "cake", "--lengths", "1500"});
    const std::string journal = output + "/cake-64/results.jsonl";
    const auto has_begun = [&](double) { return !read_file(journal).empty(); };
    const ProgramResult stopped = run_program(many, {.signals = {{has_begun, SIGUSR1}}});
    EXPECT_EQ(stopped.exit_code, 75) << stopped.err;
    EXPECT_EQ(stopped.out, "");
    EXPECT_LT(results("cake-64").size(), 120u);
    EXPECT_FALSE(std::filesystem::exists(output + "/needle.csv"));
    EXPECT_EQ(run_program(many).exit_code, 0);
    EXPECT_EQ(results("cake-64").size(), 120u);
    EXPECT_THAT(csv(), HasSubstr("\ncake,64,single,1500,50,1,40,"));
}

TEST_F(EvalNeedle, RefusesAnswersOfAnotherStudy) {
    ASSERT_EQ(run_program(study({"--policies", "cake"})).exit_code, 0);
    const std::string before = read_file(output + "/cake-64/results.jsonl");
    for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{
             {"--max-new-tokens", "9"}, {"--set", "eval.seed=1"}, {"--gamma", "1"}}) {
        std::vector<std::string> args{"--policies", "cake"};
        args.insert(args.end(), more.begin(), more.end());
        expect_refusal(args, "this result was made with another configuration");
    }
    folder.write("text.txt", sentences(401));
    expect_refusal({"--policies", "cake"}, "this result was made with another configuration");
    EXPECT_EQ(read_file(output + "/cake-64/results.jsonl"), before);
}

TEST_F(EvalNeedle, ScoresRowsOfADataFile) {
    const auto rows = [&](const std::string& expected) {
        return folder.write(
            "rows.jsonl", json{{"input", "Say something."}, {"outputs", {expected}}}.dump() + "\n" +
                              R"({"input": "Once more.", "outputs": ["none of it"]})" + "\n");
    };
    const auto args = [&](const std::string& data, const std::string& out) {
        return std::vector<std::string>{
            "eval", "needle",   "--model",       folder.path(), "--data",
            data,   "--quiet",  "--policy",      "full",        "--max-new-tokens",
            "6",    "--output", folder.file(out)};
    };
    ASSERT_EQ(run_program(args(rows("x"), "a")).exit_code, 0);
    std::istringstream lines(read_file(folder.file("a/full/results.jsonl")));
    std::string answer;
    for (std::string line; std::getline(lines, line);)
        if (const json row = json::parse(line); row["id"] == "row/1")
            answer = row["text"];
    ASSERT_FALSE(answer.empty());
    const ProgramResult r = run_program(args(rows(answer), "b"));
    EXPECT_EQ(r.exit_code, 0) << r.err;
    EXPECT_EQ(read_file(folder.file("b/needle.csv")),
              "policy,cache_size,form,length,depth,needles,trials,score\n"
              "full,0,kv,14,,1,2,0.500000\n");
    auto one = args(rows(answer), "c");
    one.insert(one.end(), {"--limit", "1"});
    ASSERT_EQ(run_program(one).exit_code, 0);
    EXPECT_THAT(read_file(folder.file("c/needle.csv")), HasSubstr("full,0,kv,14,,1,1,1.000000\n"));
}

TEST_F(EvalNeedle, LeavesNoFileWithoutAnOutput) {
    std::filesystem::create_directory(folder.file("tmp"));
    const ProgramResult r = run_program(
        {"eval", "needle", "--model", folder.path(), "--form", "kv", "--lengths", "900", "--depths",
         "50", "--needles", "1,2", "--policy", "full", "--max-new-tokens", "4", "--quiet"},
        {.environment = {{"TMPDIR", folder.file("tmp")}}});
    EXPECT_EQ(r.exit_code, 0) << r.err;
    EXPECT_THAT(r.out, AllOf(HasSubstr("| full | - | kv | 1 | 900 | "),
                             HasSubstr("| full | - | kv | 2 | 900 | ")));
    EXPECT_TRUE(std::filesystem::is_empty(folder.file("tmp")));
}

TEST_F(EvalNeedle, MayBeDoneInParts) {
    for (const char* part : {"1/2", "0/2"}) {
        const ProgramResult r = run_program(study({"--part", part, "--quiet"}));
        EXPECT_EQ(r.exit_code, 0) << r.err;
        EXPECT_EQ(r.out, "");
        EXPECT_FALSE(std::filesystem::exists(output + "/needle.csv"));
        EXPECT_EQ(std::filesystem::exists(output + "/full"), part[0] == '0');
        EXPECT_EQ(results("cake-64").size(), 6u);
    }
    const std::string before = read_file(output + "/full/results.jsonl");
    ASSERT_EQ(run_program(study()).exit_code, 0);
    EXPECT_EQ(read_file(output + "/full/results.jsonl"), before);
    EXPECT_THAT(csv(), AllOf(HasSubstr("\nfull,0,"), HasSubstr("\ncake,64,")));
}

TEST_F(EvalNeedle, RefusesBadDataWithOneMessage) {
    expect_refusal({"--lengths", "5000"}, "exceeds the model's context of 2048");
    expect_refusal({"--lengths", "2047"}, "exceeds the model's context of 2048");
    expect_refusal({"--lengths", "100"}, "has no room for the question");
    expect_refusal({"--text", folder.file("absent.txt")}, "absent.txt: cannot be opened");
    expect_refusal({"--text", folder.file("model.safetensors")},
                   "model.safetensors: holds bytes of value 0");
    expect_refusal({"--text", folder.write("short.txt", "So short.")}, "the text is too short");
    expect_refusal({"--form", "poem"}, "one of text, kv");
    expect_refusal({"--depths", "101"}, "eval.depths");
    expect_refusal({"--policies", "cak"}, "policy cak is unknown");
    expect_refusal({"--report", folder.file("r.json")}, "--report and --profile are of one policy");
    expect_refusal({"--part", "2/2"}, "eval.part is '2/2'");
    expect_refusal({"--data", text}, "leave out --text and --lengths");

    const auto with_data = [&](const std::string& path) {
        return run_program({"eval", "needle", "--model", folder.path(), "--data", path, "--quiet",
                            "--max-new-tokens", "6", "--policy", "full"});
    };
    const auto expect_bad_row = [&](const std::string& row, const std::string& message) {
        const ProgramResult r = with_data(folder.write("rows.jsonl", row + "\n"));
        EXPECT_EQ(r.exit_code, 2);
        EXPECT_THAT(r.err, HasSubstr("rows.jsonl:1: " + message));
    };
    expect_bad_row(R"({"input": "a"})", "the key 'outputs' is missing");
    expect_bad_row(json{{"input", std::string(3000, 'a')}, {"outputs", {"b"}}}.dump(),
                   "the prompt has 3000 tokens");
    EXPECT_THAT(run_program({"eval", "needle", "--model", folder.path(), "--form", "kv",
                             "--lengths", "900", "--output", text})
                    .err,
                HasSubstr("the folder cannot be made: Not a directory"));
    EXPECT_THAT(with_data(folder.path()).err, HasSubstr("is a folder, and must be a file"));
    EXPECT_THAT(run_program({"eval", "needle", "--model", folder.path()}).err,
                HasSubstr("give --lengths N,..."));
    EXPECT_THAT(run_program({"eval", "needle", "--model", folder.path(), "--lengths", "500"}).err,
                HasSubstr("give --text FILE, or --form kv"));
}

}  // namespace
}  // namespace cake::test
