// Scores of folders of answers, in the official form and as a table.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "eval/longbench.h"
#include "eval/longbench_files.h"

namespace cake {

// Of a task's answers in the order of their file.
struct TaskScores {
    std::string task;
    std::vector<double> rows;  // 0 to 1
    std::vector<std::int64_t>
        lengths;                   // words of each row's context; empty where not all rows have it
    std::uint64_t references = 0;  // a hash of what the rows were judged by
};

// The best match of an answer with any of its references, 0 to 1. Usage errors: a classification without classes, an answer
// to passage_retrieval_en of another form.
double score_row(const LongBenchTask& task, const Prediction& prediction);

// Usage errors name file and line.
TaskScores score_file(const std::string& path, const LongBenchTask& task);

// A folder with a file TASK.jsonl for each task that was done.
struct FolderScores {
    std::string folder;             // its path
    std::string name;               // of the last folder of the path: a policy, a model
    std::vector<TaskScores> tasks;  // in the order of longbench_tasks(); at least one
};

// `folder`, where it has .jsonl files, and those of its own folders that have some, by name. Passed over are names that
// begin with a dot, results.jsonl and, with a warning, the Chinese tasks. Usage errors: no folder, no answers, a file that
// is named after no task, and those of score_file.
std::vector<FolderScores> score_folders(const std::string& folder);
// The same without `folder` itself; empty where there is nothing to score.
std::vector<FolderScores> score_subfolders(const std::string& folder);

// 100 * mean, rounded to two decimals as Python's round() does it; NaN of no value.
double percent(std::span<const double> scores);

// LongBench-E: scores of contexts of less than 4000 words, of 4000 to 7999, and of more.
struct LengthBucket {
    std::string name;  // "0-4k", "4-8k", "8k+"
    std::vector<double> rows;
};
// Usage error where a row has no length.
std::vector<LengthBucket> by_length(const TaskScores& task);

// result.json: {task: score}, or {task: {bucket: score}} where `buckets`; null of an empty bucket.
nlohmann::ordered_json official_result(const FolderScores& folder, bool buckets);

// Markdown, a row per folder and a column per task that any has; the last row counts each task's answers. "average" is of
// folders that have all columns. With `buckets` a cell holds the three scores.
std::string markdown_table(std::span<const FolderScores> folders, bool buckets);

// Whether all folders' answers to each task are to the same rows: else their scores cannot be compared.
bool same_rows(std::span<const FolderScores> folders);

}  // namespace cake
