// `cake score`, as a user runs it.
#include <filesystem>

#include <gmock/gmock.h>

#include "eval/longbench_files.h"
#include "io/json_file.h"
#include "support/run_program.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

using test::run_program;
using test::run_program_on_ranks;
using testing::HasSubstr;
using testing::IsEmpty;

class Score : public testing::Test {
protected:
    Score() {
        for (const char* policy : {"cake", "full"})
            std::filesystem::create_directory(folder_.file(policy));
        write("full", "yes");
        write("cake", "yes or no");
    }
    void write(const std::string& policy, const std::string& pred) {
        folder_.write(policy + "/triviaqa.jsonl", to_line({pred, {{"yes"}, std::nullopt, 5000}}));
    }
    std::string result(const std::string& policy) const {
        return read_json_file(folder_.file(policy + "/result.json")).dump();
    }
    TempFolder folder_;
};

TEST_F(Score, PrintsATableAndWritesResults) {
    const auto run = run_program({"score", folder_.path()});
    EXPECT_EQ(run.exit_code, 0);
    EXPECT_THAT(run.err, IsEmpty());
    EXPECT_EQ(run.out,
              "| | triviaqa | average |\n"
              "|---|--:|--:|\n"
              "| cake | 50.00 | 50.00 |\n"  // 1 of 3 words, 1 of 1
              "| full | 100.00 | 100.00 |\n"
              "| rows | 1 | |\n");
    EXPECT_EQ(result("cake"), R"({"triviaqa":50.0})");
    EXPECT_EQ(result("full"), R"({"triviaqa":100.0})");
}

TEST_F(Score, GivesScoresByLength) {
    const auto run = run_program({"score", folder_.file("full"), "--e"});
    EXPECT_EQ(run.exit_code, 0);
    EXPECT_THAT(run.out, HasSubstr("| full | - / 100.00 / - |\n"));
    EXPECT_EQ(result("full"), R"({"triviaqa":{"0-4k":null,"4-8k":100.0,"8k+":null}})");
}

TEST_F(Score, WritesNothingWhereATableIsEnough) {
    EXPECT_EQ(run_program({"score", folder_.path(), "--table-only"}).exit_code, 0);
    EXPECT_FALSE(std::filesystem::exists(folder_.file("full/result.json")));
}

TEST_F(Score, SaysThatScoresAreOfDifferentRows) {
    folder_.write("cake/triviaqa.jsonl", to_line({"yes", {{"yes"}, std::nullopt, 1}}) +
                                             to_line({"no", {{"yes"}, std::nullopt, 1}}));
    const auto run = run_program({"score", folder_.path()});
    EXPECT_EQ(run.exit_code, 0);
    EXPECT_THAT(run.err, HasSubstr("cannot be compared"));
    EXPECT_THAT(run.out, HasSubstr("| rows | 1-2 | |\n"));
}

TEST_F(Score, RefusesBadAnswersAndLeavesResultsAlone) {
    folder_.write("full/triviaqa.jsonl", R"({"pred": "yes", "ans)");
    const auto run = run_program({"score", folder_.path()});
    EXPECT_EQ(run.exit_code, 2);
    EXPECT_THAT(run.out, IsEmpty());
    EXPECT_EQ(run.err, "cake: error: " + folder_.file("full/triviaqa.jsonl") +
                           ":1: the last line is cut short: what wrote it is still running, or was "
                           "killed; let it end, or start it again\n");
    EXPECT_FALSE(std::filesystem::exists(folder_.file("cake/result.json")));
}

TEST_F(Score, KeepsScoresOfOtherTasks) {
    const std::string official = R"({"triviaqa": 100.0, "vcsum": 17.24})";
    folder_.write("full/result.json", official);
    const auto run = run_program({"score", folder_.path()});
    EXPECT_EQ(run.exit_code, 2);
    EXPECT_THAT(run.err, HasSubstr("full/result.json: it has a score of 'vcsum'"));
    EXPECT_EQ(result("full"), R"({"triviaqa":100.0,"vcsum":17.24})");
    EXPECT_FALSE(std::filesystem::exists(folder_.file("cake/result.json")));
    EXPECT_EQ(run_program({"score", folder_.path(), "--table-only"}).exit_code, 0);
}

TEST_F(Score, RenewsItsOwnResult) {
    EXPECT_EQ(run_program({"score", folder_.path()}).exit_code, 0);
    write("full", "no");
    EXPECT_EQ(run_program({"score", folder_.path()}).exit_code, 0);
    EXPECT_EQ(result("full"), R"({"triviaqa":0.0})");
}

TEST_F(Score, WantsAFolder) {
    EXPECT_EQ(run_program({"score"}).exit_code, 2);
    const auto run = run_program({"score", folder_.file("no")});
    EXPECT_EQ(run.exit_code, 2);
    EXPECT_THAT(run.err, HasSubstr("cannot be read as a folder"));
}

TEST_F(Score, SpeaksOnceOnSeveralRanks) {
    const auto run = run_program_on_ranks(2, {"score", folder_.file("full")});
    EXPECT_EQ(run.exit_code, 0);
    EXPECT_EQ(run.out,
              "| | triviaqa | average |\n|---|--:|--:|\n| full | 100.00 | 100.00 |\n"
              "| rows | 1 | |\n");
}

}  // namespace
}  // namespace cake
