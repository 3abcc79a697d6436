// `cake eval longbench`, as a user runs it, on a tiny model whose tokens are bytes.
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <sys/file.h>
#include <unistd.h>

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

json row(int i, std::size_t context_bytes = 400) {
    std::string context;
    while (context.size() < context_bytes)
        context += "Row " + std::to_string(i) + " says little.\n";
    return {{"input", "What does row " + std::to_string(i) + " say?"},
            {"context", context},
            {"answers", {"little", "row " + std::to_string(i)}},
            {"length", 3000 * i},
            {"all_classes", nullptr},
            {"dataset", "self-made"}};
}

class EvalLongBench : public testing::Test {
protected:
    TempFolder folder;
    std::string data = folder.file("data"), output = folder.file("out");

    void SetUp() override {
        for (const char* name : {"config.json", "model.safetensors"})
            std::filesystem::copy_file(golden_model("tiny-llama") + "/" + name, folder.file(name));
        folder.write("tokenizer.json", byte_tokenizer().dump());
        std::filesystem::create_directory(data);
        for (const char* task : {"qasper", "triviaqa", "samsum"})
            write_rows(task, {row(0), row(1), row(2)});
    }
    void write_rows(const std::string& task, const std::vector<json>& rows) const {
        std::string lines;
        for (const json& row : rows)
            lines += row.dump() + "\n";
        folder.write("data/" + task + ".jsonl", lines);
    }

    // Three rows of three tasks under two policies; what `more` says wins.
    std::vector<std::string> study(const std::vector<std::string>& more = {}) const {
        std::vector<std::string> args{
            "eval",      "longbench",     "--model", folder.path(), "--data", data,
            "--output",  output,          "--quiet", "--chat",      "none",   "--policies",
            "full,cake", "--cache-sizes", "64",      "--window",    "16"};
        args.insert(args.end(), more.begin(), more.end());
        return args;
    }
    // One policy.
    std::vector<std::string> of_cake(const std::vector<std::string>& more = {}) const {
        std::vector<std::string> args{"--policies", "cake"};
        args.insert(args.end(), more.begin(), more.end());
        return study(args);
    }
    std::string file(const std::string& name) const { return output + "/" + name; }
    std::string read(const std::string& name) const { return read_file(file(name)); }
    // Lines of the journal by id, each there once.
    std::map<std::string, json> results(const std::string& label) const {
        std::map<std::string, json> out;
        std::istringstream lines(read(label + "/results.jsonl"));
        for (std::string line; std::getline(lines, line);) {
            const json result = json::parse(line);
            EXPECT_TRUE(out.emplace(result["id"], result).second) << result["id"] << " twice";
        }
        return out;
    }
    // Official files by name.
    std::map<std::string, std::string> official() const {
        std::map<std::string, std::string> out;
        for (const char* label : {"full", "cake-64"})
            for (const char* task : {"qasper", "triviaqa", "samsum"}) {
                const std::string name = std::string(label) + "/" + task + ".jsonl";
                if (std::filesystem::exists(file(name)))
                    out[name] = read(name);
            }
        return out;
    }
    void expect_refusal(const std::vector<std::string>& args, const std::string& message) const {
        const ProgramResult r = run_program(args);
        EXPECT_EQ(r.exit_code, 2) << message << "\n" << r.err;
        EXPECT_THAT(r.err, HasSubstr(message));
        EXPECT_EQ(std::ranges::count(r.err, '\n'), 1) << r.err;
        EXPECT_EQ(r.out, "");
    }
};

TEST_F(EvalLongBench, WritesOfficialFilesAndScoresThem) {
    const ProgramResult r = run_program(study());
    ASSERT_EQ(r.exit_code, 0) << r.err;
    for (const char* label : {"full", "cake-64"}) {
        const auto journal = results(label);
        EXPECT_EQ(journal.size(), 9u);
        for (const char* task : {"qasper", "triviaqa", "samsum"}) {
            std::istringstream lines(read(std::string(label) + "/" + task + ".jsonl"));
            int i = 0;
            for (std::string line; std::getline(lines, line); ++i) {
                const auto got = nlohmann::ordered_json::parse(line);
                std::vector<std::string> keys;
                for (const auto& [key, value] : got.items())
                    keys.push_back(key);
                EXPECT_THAT(keys, testing::ElementsAre("pred", "answers", "all_classes", "length"));
                EXPECT_EQ(got["pred"],
                          journal.at(std::string(task) + "/" + std::to_string(i))["text"]);
                EXPECT_EQ(got["answers"][1], "row " + std::to_string(i));
                EXPECT_EQ(got["all_classes"], nullptr);
                EXPECT_EQ(got["length"], 3000 * i);
            }
            EXPECT_EQ(i, 3) << label << " " << task;
        }
        EXPECT_EQ(journal.at("triviaqa/0")["output_tokens"], 32);  // the task's own length
        EXPECT_EQ(read_json_file(file(std::string(label) + "/result.json")).size(), 3u);
    }
    EXPECT_EQ(results("full").at("qasper/0")["evicted"], false);
    EXPECT_EQ(results("cake-64").at("qasper/0")["evicted"], true);
    EXPECT_THAT(r.out, StartsWith("| | qasper | triviaqa | samsum | average |\n"));
    EXPECT_THAT(r.out, AllOf(HasSubstr("\n| full | "), HasSubstr("\n| cake-64 | "),
                             HasSubstr("\n| rows | 3 | 3 | 3 | |\n")));
    EXPECT_EQ(read("table.md"), r.out);
    EXPECT_EQ(run_program({"score", output}).out, r.out);
}

TEST_F(EvalLongBench, GivesTheSameAnswersOnAnyNumberOfRanks) {
    ASSERT_EQ(run_program(study()).exit_code, 0);
    const auto expected = official();
    ASSERT_EQ(expected.size(), 6u);
    const std::string table = read("table.md");
    for (const auto& [ranks, tensor] : {std::pair{2, 2}, {3, 3}, {3, 1}}) {
        std::filesystem::remove_all(output);
        const ProgramResult r = run_program_on_ranks(
            ranks, study({"--check", "--set", "parallel.tensor=" + std::to_string(tensor)}));
        ASSERT_EQ(r.exit_code, 0) << r.err;
        EXPECT_EQ(official(), expected) << ranks << " ranks, " << tensor << " in a replica";
        EXPECT_EQ(r.out, table);
    }
}

TEST_F(EvalLongBench, GoesOnWhereItStoppedAndMayBeWidened) {
    ASSERT_EQ(run_program(of_cake()).exit_code, 0);
    const auto whole = official();
    const std::string before = read("cake-64/results.jsonl");
    const std::size_t last = before.rfind('\n', before.size() - 2) + 1;
    std::filesystem::resize_file(file("cake-64/results.jsonl"), last + 5);  // as a kill leaves it
    for (const auto& [name, text] : whole)
        std::filesystem::remove(file(name));
    ASSERT_EQ(run_program(of_cake()).exit_code, 0);
    EXPECT_THAT(read("cake-64/results.jsonl"), StartsWith(before.substr(0, last)));
    EXPECT_EQ(results("cake-64").size(), 9u);
    EXPECT_EQ(official(), whole);

    // Fewer rows and tasks first, then all: nothing that is done is done again.
    std::filesystem::remove_all(output);
    ASSERT_EQ(run_program(of_cake({"--tasks", "triviaqa", "--limit", "2"})).exit_code, 0);
    EXPECT_EQ(results("cake-64").size(), 2u);
    EXPECT_THAT(whole.at("cake-64/triviaqa.jsonl"), StartsWith(read("cake-64/triviaqa.jsonl")));
    const std::string two = read("cake-64/results.jsonl");
    ASSERT_EQ(run_program(of_cake()).exit_code, 0);
    EXPECT_THAT(read("cake-64/results.jsonl"), StartsWith(two));
    EXPECT_EQ(official(), whole);
}

TEST_F(EvalLongBench, MayBeDoneInParts) {
    for (const char* part : {"1/2", "0/2"}) {
        const ProgramResult r = run_program(study({"--part", part}));
        ASSERT_EQ(r.exit_code, 0) << r.err;
        EXPECT_EQ(r.out, "");
        EXPECT_FALSE(std::filesystem::exists(file("table.md")));
        EXPECT_EQ(std::filesystem::exists(file("full")), part[0] == '0');
    }
    const std::string before = read("full/results.jsonl");
    const ProgramResult whole = run_program(study());
    ASSERT_EQ(whole.exit_code, 0) << whole.err;
    EXPECT_EQ(read("full/results.jsonl"), before);
    EXPECT_EQ(whole.out, read("table.md"));
    EXPECT_THAT(whole.out, AllOf(HasSubstr("| full |"), HasSubstr("| cake-64 |")));
}

TEST_F(EvalLongBench, StopsAtASignalAndGoesOn) {
    std::vector<json> rows;
    for (int i = 0; i < 60; ++i)
        rows.push_back(row(i, 1200));
    write_rows("triviaqa", rows);
    const auto args = of_cake({"--tasks", "triviaqa"});
    const auto has_begun = [&](double) { return !read("cake-64/results.jsonl").empty(); };
    const ProgramResult stopped = run_program(args, {.signals = {{has_begun, SIGUSR1}}});
    EXPECT_EQ(stopped.exit_code, 75) << stopped.err;
    EXPECT_LT(results("cake-64").size(), 60u);
    EXPECT_TRUE(official().empty());  // half of a task is not scored as if it were all
    ASSERT_EQ(run_program(args).exit_code, 0);
    EXPECT_EQ(results("cake-64").size(), 60u);
    EXPECT_EQ(std::ranges::count(read("cake-64/triviaqa.jsonl"), '\n'), 60);
}

TEST_F(EvalLongBench, RefusesAnswersOfAnotherConfiguration) {
    ASSERT_EQ(run_program(of_cake({"--limit", "1"})).exit_code, 0);
    const std::string before = read("cake-64/results.jsonl");
    write_rows("qasper_e", {row(7)});
    expect_refusal(of_cake({"--limit", "1", "--gamma", "1"}), "made with another configuration");
    const std::string rows = "prompts.json: the rows of qasper were others than those in --data";
    expect_refusal(of_cake({"--limit", "1", "--e"}), rows);
    expect_refusal(of_cake({"--limit", "1", "--longest-prompt", "500"}),
                   "prompts.json: longest_prompt was 0 there and is 500 now");
    // Nor may another policy's answers stand beside them in a table.
    expect_refusal(study({"--limit", "1", "--longest-prompt", "500", "--policies", "full"}),
                   "prompts.json: longest_prompt was 0 there and is 500 now");
    const std::string qasper = read_file(data + "/qasper.jsonl");
    write_rows("qasper", {row(7)});
    expect_refusal(study({"--limit", "1", "--policies", "full"}), rows);
    folder.write("data/qasper.jsonl", qasper);
    EXPECT_EQ(read("cake-64/results.jsonl"), before);
    // What does not change answers does not count.
    EXPECT_EQ(run_program(of_cake({"--limit", "1", "--max-batch", "2"})).exit_code, 0);
}

TEST_F(EvalLongBench, SaysThatAnotherJobWritesThere) {
    ASSERT_EQ(run_program(of_cake({"--limit", "1"})).exit_code, 0);
    const std::string journal = file("cake-64/results.jsonl");
    const int held = ::open(journal.c_str(), O_RDWR);
    ASSERT_EQ(::flock(held, LOCK_EX | LOCK_NB), 0);
    expect_refusal(of_cake({"--limit", "1"}), journal);
    // Tasks that are whole can be scored meanwhile.
    EXPECT_EQ(run_program({"score", output}).out, read("table.md"));
    ::close(held);
}

// In LongBench's script ends are no first tokens where an answer ends at a line break.
TEST_F(EvalLongBench, BeginsNoSummaryOfADialogueWithAnEnd) {
    // The model's favourite first token of each becomes its end.
    ASSERT_EQ(run_program(of_cake({"--limit", "1"})).exit_code, 0);
    const auto free = results("cake-64");
    for (const char* task : {"samsum", "triviaqa"}) {
        const std::string id = std::string(task) + "/0";
        const TokenId favourite = free.at(id)["tokens"][0];
        json config = read_json_file(folder.file("config.json"));
        config["eos_token_id"] = favourite;
        const TempFolder other;
        other.write("config.json", config.dump());
        json tokenizer = byte_tokenizer();  // an end is a token that it knows
        tokenizer["added_tokens"].push_back(added_token(favourite, "<|end|>"));
        other.write("tokenizer.json", tokenizer.dump());
        std::filesystem::copy_file(folder.file("model.safetensors"),
                                   other.file("model.safetensors"));
        output = other.file("out");
        const ProgramResult r =
            run_program(of_cake({"--limit", "1", "--tasks", task, "--model", other.path()}));
        ASSERT_EQ(r.exit_code, 0) << r.err;
        const json result = results("cake-64").at(id);
        if (std::string(task) == "triviaqa") {
            EXPECT_EQ(result["output_tokens"], 0);
        } else {
            ASSERT_GT(result["output_tokens"], 0);
            EXPECT_NE(result["tokens"][0], favourite);
            EXPECT_THAT(result["tokens"].get<std::vector<TokenId>>(), Not(testing::Contains('\n')));
        }
    }
}

TEST_F(EvalLongBench, PutsOneBosInFrontWhereAsked) {
    json tokenizer = byte_tokenizer();
    tokenizer["post_processor"] = {
        {"type", "TemplateProcessing"},
        {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}},
        {"special_tokens", {{"<s>", {{"ids", {258}}}}}}};
    folder.write("tokenizer.json", tokenizer.dump());
    folder.write("tokenizer_config.json", R"({"bos_token": "<s>"})");
    const std::vector<std::string> mistral{"--chat", "mistral", "--limit", "1"};
    ASSERT_EQ(run_program(of_cake(mistral)).exit_code, 0);
    const auto two = results("cake-64");
    EXPECT_EQ(read_json_file(file("cake-64/prompts.json"))["two_bos"], true);
    auto single = mistral;
    single.push_back("--single-bos");
    expect_refusal(of_cake(single), "two_bos was true there and is false now");
    std::filesystem::remove_all(output);
    ASSERT_EQ(run_program(of_cake(single)).exit_code, 0);
    const auto one = results("cake-64");
    EXPECT_EQ(read_json_file(file("cake-64/prompts.json"))["two_bos"], false);
    const auto length = [](const json& result) { return result["prompt_tokens"].get<int>(); };
    EXPECT_EQ(length(one.at("qasper/0")), length(two.at("qasper/0")) - 1);
    EXPECT_EQ(length(one.at("triviaqa/0")), length(two.at("triviaqa/0")));  // has no template
}

TEST_F(EvalLongBench, CutsLongPromptsOrPassesThemOver) {
    write_rows("triviaqa", {row(0), row(1, 3000), row(2)});
    const std::vector<std::string> cut{"--tasks", "triviaqa", "--longest-prompt", "1200"};
    ASSERT_EQ(run_program(of_cake(cut)).exit_code, 0);
    const auto all = results("cake-64");
    EXPECT_EQ(all.at("triviaqa/1")["prompt_tokens"], 1200);
    EXPECT_LT(all.at("triviaqa/0")["prompt_tokens"], 1000);
    std::filesystem::remove_all(output);
    auto whole = cut;
    whole.insert(whole.end(), {"--whole-only", "--limit", "2"});
    ASSERT_EQ(run_program(of_cake(whole)).exit_code, 0);
    const auto some = results("cake-64");
    EXPECT_EQ(some.size(), 2u);
    EXPECT_EQ(some.at("triviaqa/2")["tokens"], all.at("triviaqa/2")["tokens"]);
    EXPECT_EQ(std::ranges::count(read("cake-64/triviaqa.jsonl"), '\n'), 2);
    std::filesystem::remove_all(output);
    expect_refusal(of_cake({"--longest-prompt", "100", "--whole-only"}),
                   "none of its rows has a prompt of at most 100 tokens");
}

TEST_F(EvalLongBench, LeavesATaskOutWhereARowCannotBeAnswered) {
    write_rows("triviaqa", {row(0), row(1, 3000), row(2)});
    const ProgramResult r = run_program(of_cake({"--longest-prompt", "100000"}));
    EXPECT_EQ(r.exit_code, 3) << r.err;
    EXPECT_THAT(results("cake-64").at("triviaqa/1")["error"].get<std::string>(),
                HasSubstr("the model's context 2048"));
    EXPECT_THAT(r.err, HasSubstr("1 rows of triviaqa have no answer yet"));
    EXPECT_FALSE(std::filesystem::exists(file("cake-64/triviaqa.jsonl")));
    EXPECT_THAT(r.out, StartsWith("| | qasper | samsum | average |\n"));
}

TEST_F(EvalLongBench, TakesBackATaskThatAWiderStartLeavesUnanswered) {
    write_rows("triviaqa", {row(0), row(1, 3000)});
    ASSERT_EQ(run_program(of_cake({"--longest-prompt", "100000", "--limit", "1"})).exit_code, 0);
    EXPECT_TRUE(std::filesystem::exists(file("cake-64/triviaqa.jsonl")));
    const ProgramResult r = run_program(of_cake({"--longest-prompt", "100000"}));
    EXPECT_EQ(r.exit_code, 3) << r.err;
    EXPECT_FALSE(std::filesystem::exists(file("cake-64/triviaqa.jsonl")));
    EXPECT_THAT(r.out, StartsWith("| | qasper | samsum | average |\n"));
    EXPECT_FALSE(read_json_file(file("cake-64/result.json")).contains("triviaqa"));
}

TEST_F(EvalLongBench, ScoresByLength) {
    write_rows("triviaqa_e", {row(0), row(2)});
    const ProgramResult r = run_program(of_cake({"--tasks", "triviaqa", "--e"}));
    ASSERT_EQ(r.exit_code, 0) << r.err;
    const json result = read_json_file(file("cake-64/result.json"))["triviaqa"];
    EXPECT_TRUE(result["0-4k"].is_number());
    EXPECT_TRUE(result["4-8k"].is_number());
    EXPECT_TRUE(result["8k+"].is_null());
}

TEST_F(EvalLongBench, PassesOverChineseTasks) {
    write_rows("vcsum", {row(0)});
    const ProgramResult r = run_program(of_cake({"--limit", "1"}));
    EXPECT_EQ(r.exit_code, 0) << r.err;
    EXPECT_THAT(r.err, AllOf(HasSubstr("vcsum.jsonl: passed over"), HasSubstr("English")));
    EXPECT_EQ(results("cake-64").size(), 3u);
}

TEST_F(EvalLongBench, RefusesBadDataWithOneMessage) {
    expect_refusal(of_cake({"--data", folder.file("no")}), "this is no folder");
    expect_refusal(of_cake({"--data", data + "/qasper.jsonl"}), "this is no folder");
    std::filesystem::create_directory(folder.file("empty"));
    expect_refusal(of_cake({"--data", folder.file("empty")}), "there is no file TASK.jsonl");
    expect_refusal(of_cake({"--tasks", "qasprer"}), "the nearest one is qasper");
    expect_refusal(of_cake({"--tasks", "trec"}), "--tasks names trec");
    expect_refusal(of_cake({"--policies", "cak"}), "policy cak is unknown");
    expect_refusal(study({"--report", folder.file("r.json")}),
                   "--report and --profile are of one policy");
    expect_refusal({"eval", "longbench", "--model", folder.path(), "--output", output},
                   "give --data DIR");

    const auto expect_bad_rows = [&](const std::string& lines, const std::string& message) {
        folder.write("data/qasper.jsonl", lines);
        expect_refusal(of_cake(), "qasper.jsonl:" + message);
    };
    json no_answers = row(0);
    no_answers["answers"] = json::array();
    expect_bad_rows(row(0).dump() + "\n" + no_answers.dump() + "\n", "2: there are no answers");
    json no_context = row(0);
    no_context.erase("context");
    expect_bad_rows(no_context.dump() + "\n", "1: the key 'context' is missing");
    expect_bad_rows(row(0).dump() + "\n" + row(1).dump().substr(0, 50),
                    "2: the last line is cut short");
    expect_bad_rows("\n", " there is no row in this file");
    EXPECT_FALSE(std::filesystem::exists(file("cake-64/results.jsonl")));
    write_rows("qasper", {row(0)});
    output = data + "/qasper.jsonl";
    expect_refusal(of_cake(), "the folder cannot be made");
}

}  // namespace
}  // namespace cake::test
