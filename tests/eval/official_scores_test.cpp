// Every score against those of the official scorer, on a model's real answers.
#include <cstdlib>
#include <filesystem>
#include <set>

#include <gmock/gmock.h>

#include "eval/longbench_score.h"
#include "io/json_file.h"

namespace cake {
namespace {

// The folder with config, tasks and predictions of LongBench, where it is on this machine.
std::optional<std::string> longbench_folder() {
    const char* given = std::getenv("CAKE_TEST_LONGBENCH");
    const std::string folder = given ? given : CAKE_SOURCE_DIR "/../shared/data/longbench";
    return std::filesystem::exists(folder) ? std::optional(folder) : std::nullopt;
}

constexpr const char* how_to_get_longbench =
    "no LongBench here: set CAKE_TEST_LONGBENCH to a folder with config, tasks and "
    "predictions/llama3-8b-instruct";

TEST(OfficialScores, AreThoseOfEveryTaskAndEveryRow) {
    const auto folder = longbench_folder();
    if (!folder)
        GTEST_SKIP() << how_to_get_longbench;
    const std::string predictions = *folder + "/predictions/llama3-8b-instruct";
    const auto result = read_json_file(predictions + "/result.json");
    const auto rows = read_json_file(predictions + "/per_sample_scores.json");

    const auto folders = score_folders(predictions);
    ASSERT_EQ(folders.size(), 1u);
    ASSERT_EQ(folders[0].tasks.size(), 16u);
    std::size_t n_rows = 0;
    for (const TaskScores& task : folders[0].tasks) {
        EXPECT_EQ(percent(task.rows), result[task.task].get<double>()) << task.task;
        ASSERT_EQ(task.rows.size(), rows[task.task].size()) << task.task;
        for (std::size_t i = 0; i < task.rows.size(); ++i)
            EXPECT_NEAR(task.rows[i], rows[task.task][i].get<double>(), 1e-9)
                << task.task << ", row " << i;
        n_rows += task.rows.size();
    }
    EXPECT_EQ(n_rows, 3750u);
}

TEST(OfficialScores, ComeFromTheOfficialPromptsAndLengths) {
    const auto folder = longbench_folder();
    if (!folder)
        GTEST_SKIP() << how_to_get_longbench;
    const auto prompts = read_json_file(*folder + "/config/dataset2prompt.json");
    const auto lengths = read_json_file(*folder + "/config/dataset2maxlen.json");
    for (const LongBenchTask& task : longbench_tasks()) {
        EXPECT_EQ(task.prompt, prompts.at(task.name).get<std::string>());
        EXPECT_EQ(task.max_new_tokens, lengths.at(task.name).get<int>()) << task.name;
    }
}

TEST(OfficialScores, EveryRowOfTheDataIsRead) {
    const auto folder = longbench_folder();
    if (!folder)
        GTEST_SKIP() << how_to_get_longbench;
    std::size_t n_rows = 0;
    for (const LongBenchTask& task : longbench_tasks()) {
        for (const LongBenchRow& row :
             read_longbench_rows(*folder + "/tasks/" + task.name + ".jsonl")) {
            const std::string text = longbench_text(task, row);
            EXPECT_NE(text.find(row.context), std::string::npos) << task.name;
            EXPECT_NE(text.find(row.input), std::string::npos) << task.name;
            // What is right has the whole score, so the answers are of the form that the metric takes.
            Prediction right{row.reference.answers.front(), row.reference};
            EXPECT_GT(score_row(task, right), 0.0) << task.name << ':' << row.line;
            ++n_rows;
        }
    }
    EXPECT_EQ(n_rows, 187u);
}

}  // namespace
}  // namespace cake
