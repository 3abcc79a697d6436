// What is asked of a model for LongBench, and the official files of what it answered.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "eval/longbench.h"

namespace cake {

// The data's files: TASK.jsonl, or for LongBench-E TASK_e.jsonl where there is one.
struct LongBenchFile {
    const LongBenchTask* task = nullptr;
    std::string path;
};

// In the order of longbench_tasks(), those of eval.tasks or all that the folder has. Chinese tasks and files of other names
// are passed over with a warning. Usage errors: no folder, a task that is unknown or that it lacks, none at all.
std::vector<LongBenchFile> longbench_files(const RunConfig::Eval& eval, bool buckets);

// A row, ready to be asked.
struct LongBenchQuestion {
    const LongBenchTask* task = nullptr;
    std::string id;  // "qasper/12": its place in the file, from 0
    std::vector<TokenId> prompt;
    Reference reference;
};

// Prompts of a study: `prompting`, but that a `longest` of 0 is what `context` tokens leave beside a task's answer and its
// template. eval.limit rows of each file; with eval.whole_only those alone from which no middle is taken.
std::vector<LongBenchQuestion> longbench_questions(const std::vector<LongBenchFile>& files,
                                                   const RunConfig::Eval& eval,
                                                   const LongBenchPrompting& prompting, int context,
                                                   bool buckets, const Tokenizer& tokenizer);

// Tokens that end an answer to a task beside the model's: a line break, where the task says so. The official script asks for
// one token before, so that no answer is empty.
std::vector<TokenId> ends_of(const LongBenchTask& task, const Tokenizer& tokenizer);

// TASK.jsonl, the official file, by task: of those alone whose questions all have an answer (by id). Lines are in the rows'
// order.
struct TaskAnswers {
    std::string task;
    int missing = 0;   // questions without an answer
    std::string text;  // of the file; empty where some are missing
};
std::vector<TaskAnswers> official_files(const std::vector<LongBenchQuestion>& questions,
                                        const std::map<std::string, std::string>& answers);

}  // namespace cake
