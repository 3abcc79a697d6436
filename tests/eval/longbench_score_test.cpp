// Scores of files and folders.
#include "eval/longbench_score.h"

#include <cmath>
#include <filesystem>

#include <gmock/gmock.h>

#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

std::string line(const std::string& pred, const std::vector<std::string>& answers,
                 std::optional<std::int64_t> length = 100) {
    return to_line({pred, {answers, std::nullopt, length}});
}

Prediction prediction(const std::string& pred, const std::vector<std::string>& answers) {
    return {pred, {answers, std::nullopt, std::nullopt}};
}

TEST(ScoreRow, TakesTheBestOfTheAnswers) {
    EXPECT_EQ(
        score_row(longbench_task("hotpotqa"), prediction("blue", {"red", "blue", "blue sky"})), 1);
}

TEST(ScoreRow, LooksAtTheFirstLineOfSomeTasks) {
    const Prediction two = prediction("\n\nyes\nQuestion: no", {"yes"});
    EXPECT_EQ(score_row(longbench_task("triviaqa"), two), 1);
    EXPECT_DOUBLE_EQ(score_row(longbench_task("hotpotqa"), two), 0.5);  // 1 of 3 words, 1 of 1
    EXPECT_EQ(score_row(longbench_task("triviaqa"), prediction("\n", {"yes"})), 0);
}

TEST(ScoreRow, WantsClassesWhereThereAreSome) {
    Prediction p = prediction("Food", {"Food"});
    EXPECT_THAT(usage_message([&] { score_row(longbench_task("trec"), p); }),
                HasSubstr("'all_classes' is null"));
    p.reference.all_classes = {"Food", "Date"};
    EXPECT_EQ(score_row(longbench_task("trec"), p), 1);
}

TEST(Percent, RoundsAsPythonDoes) {
    EXPECT_EQ(percent(std::vector{1.0, 0.0, 0.0}), 33.33);
    EXPECT_EQ(percent(std::vector{1.0, 1.0, 0.0}), 66.67);
    EXPECT_EQ(percent(std::vector{1.0}), 100);
    EXPECT_EQ(percent(std::vector{0.00125}), 0.12);  // 0.125 is exact: to the even digit
    EXPECT_TRUE(std::isnan(percent({})));
}

TEST(ScoreFile, SaysInWhichLineAnAnswerIsWrong) {
    const TempFolder folder;
    const std::string path =
        folder.write("passage_retrieval_en.jsonl", line("1", {"Paragraph 1"}) + line("1", {"1"}));
    EXPECT_THAT(usage_message([&] { score_file(path, longbench_task("passage_retrieval_en")); }),
                StartsWith(path + ":2: the answer '1'"));
}

// Two policies: one has done two tasks, the other one task.
class ScoreFolders : public testing::Test {
protected:
    ScoreFolders() {
        for (const char* policy : {"cake", "full"})
            std::filesystem::create_directory(folder_.file(policy));
        folder_.write(
            "full/hotpotqa.jsonl",
            line("yes", {"yes"}, 3999) + line("yes", {"no"}, 4000) + line("a b", {"b c"}, 7999));
        folder_.write("full/passage_count.jsonl", line("5 6", {"5"}, 8000));
        folder_.write("cake/hotpotqa.jsonl", line("no", {"no"}) + line("no", {"no"}));
        folder_.write("cake/result.json", "{}");
    }
    TempFolder folder_;
};

TEST_F(ScoreFolders, AreScoredByName) {
    const auto folders = score_folders(folder_.path());
    ASSERT_EQ(folders.size(), 2u);
    EXPECT_EQ(folders[0].name, "cake");
    EXPECT_EQ(folders[1].name, "full");
    ASSERT_EQ(folders[1].tasks.size(), 2u);
    EXPECT_EQ(folders[1].tasks[0].task, "hotpotqa");
    // "a" is an article: of "b" and "b c" 1 of 1 word, 1 of 2
    EXPECT_THAT(folders[1].tasks[0].rows, ElementsAre(1, 0, testing::DoubleEq(2.0 / 3)));
    EXPECT_THAT(folders[1].tasks[1].rows, ElementsAre(0.5));
    EXPECT_EQ(score_folders(folder_.file("full/")).at(0).name, "full");
}

TEST_F(ScoreFolders, GiveTheOfficialResult) {
    const auto folders = score_folders(folder_.path());
    EXPECT_EQ(official_result(folders[1], false).dump(),
              R"({"hotpotqa":55.56,"passage_count":50.0})");
    EXPECT_EQ(official_result(folders[1], true).dump(),
              R"({"hotpotqa":{"0-4k":100.0,"4-8k":33.33,"8k+":null},)"
              R"("passage_count":{"0-4k":null,"4-8k":null,"8k+":50.0}})");
}

TEST_F(ScoreFolders, MakeATable) {
    EXPECT_EQ(markdown_table(score_folders(folder_.path()), false),
              "| | hotpotqa | passage_count | average |\n"
              "|---|--:|--:|--:|\n"
              "| cake | 100.00 | - | - |\n"
              "| full | 55.56 | 50.00 | 52.78 |\n"
              "| rows | 2-3 | 1 | |\n");
    EXPECT_EQ(markdown_table(score_folders(folder_.file("full")), true),
              "| | hotpotqa | passage_count |\n"
              "|---|--:|--:|\n"
              "| full | 100.00 / 33.33 / - | - / - / 50.00 |\n"
              "| rows | 3 | 1 |\n");
}

TEST_F(ScoreFolders, TellWhetherTheyHaveTheSameRows) {
    EXPECT_FALSE(same_rows(score_folders(folder_.path())));
    folder_.write("cake/hotpotqa.jsonl",  // as many, of other rows
                  line("no", {"no"}) + line("no", {"no"}) + line("", {"no"}));
    EXPECT_FALSE(same_rows(score_folders(folder_.path())));
    folder_.write("cake/hotpotqa.jsonl",
                  line("", {"yes"}, 3999) + line("", {"no"}, 4000) + line("", {"b c"}, 7999));
    EXPECT_TRUE(same_rows(score_folders(folder_.path())));
}

TEST_F(ScoreFolders, WantALengthForLongBenchE) {
    folder_.write("full/passage_count.jsonl", line("5", {"5"}, std::nullopt));
    const auto folders = score_folders(folder_.file("full"));
    EXPECT_THAT(usage_message([&] { official_result(folders[0], true); }),
                AllOf(HasSubstr("passage_count"), HasSubstr("'length'")));
}

TEST_F(ScoreFolders, RefuseAnUnknownTask) {
    const std::string path = folder_.write("cake/hotpot.jsonl", line("no", {"no"}));
    EXPECT_EQ(usage_message([&] { score_folders(folder_.path()); }),
              path + ": there is no LongBench task 'hotpot'; the nearest one is hotpotqa");
}

TEST_F(ScoreFolders, PassOverChineseTasksAndHiddenFiles) {
    folder_.write("cake/vcsum.jsonl", "not read");
    folder_.write("cake/.hotpot.jsonl", "not read");
    EXPECT_EQ(score_folders(folder_.file("cake")).at(0).tasks.size(), 1u);
}

TEST_F(ScoreFolders, RefuseAFolderWithoutAnswers) {
    const TempFolder empty;
    EXPECT_THAT(usage_message([&] { score_folders(empty.path()); }),
                AllOf(HasSubstr("no answers to score"), HasSubstr("narrativeqa, qasper")));
    EXPECT_THAT(usage_message([&] { score_folders(empty.file("no")); }),
                HasSubstr("cannot be read as a folder"));
}

}  // namespace
}  // namespace cake
