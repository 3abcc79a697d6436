#include "eval/longbench_rows.h"

#include <algorithm>
#include <filesystem>

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "base/error.h"

namespace cake {
namespace {

namespace fs = std::filesystem;

// What a template may add to a text, and the cut's own uncertainty (without_middle).
constexpr int kSpareTokens = 64;

void warn_of_others(const std::string& folder) {
    for (const auto& entry : fs::directory_iterator(folder)) {
        if (entry.path().extension() != ".jsonl")
            continue;
        std::string name = entry.path().stem().string();
        if (name.ends_with("_e"))
            name.resize(name.size() - 2);
        if (is_chinese_longbench_task(name))
            spdlog::warn("{}: passed over, the English tasks of LongBench are asked",
                         entry.path().string());
        else if (std::ranges::count(longbench_tasks(), name, &LongBenchTask::name) == 0)
            spdlog::warn("{}: passed over, it is named after no task of LongBench",
                         entry.path().string());
    }
}

// Now, not when all answers are there.
void check_can_be_scored(const LongBenchTask& task, const LongBenchRow& row, bool buckets,
                         const std::string& path) {
    if (task.metric == Metric::Classification && !row.reference.all_classes)
        throw usage_error("{}:{}: {} is scored by its classes, and 'all_classes' is null", path,
                          row.line, task.name);
    if (buckets && !row.reference.length)
        throw usage_error("{}:{}: a row without a 'length' belongs to no bucket of LongBench-E",
                          path, row.line);
}

}  // namespace

std::vector<LongBenchFile> longbench_files(const RunConfig::Eval& eval, bool buckets) {
    std::error_code failed;
    if (eval.data.empty())
        throw usage_error(
            "rows are missing: give --data DIR, a folder of LongBench's .jsonl files");
    if (!fs::is_directory(eval.data, failed))
        throw usage_error("{}: this is no folder; --data takes one of LongBench's .jsonl files",
                          eval.data);
    for (const std::string& name : eval.tasks)
        longbench_task(name);  // is there such a one?
    std::vector<LongBenchFile> out;
    for (const LongBenchTask& task : longbench_tasks()) {
        const bool asked = std::ranges::count(eval.tasks, task.name) > 0;
        if (!eval.tasks.empty() && !asked)
            continue;
        const fs::path folder(eval.data);
        fs::path path = folder / (task.name + "_e.jsonl");
        if (!buckets || !fs::exists(path))
            path = folder / (task.name + ".jsonl");
        if (fs::exists(path))
            out.push_back({&task, path.string()});
        else if (asked)
            throw usage_error("{}: there is no such file, and --tasks names {}", path.string(),
                              task.name);
    }
    if (eval.tasks.empty())
        warn_of_others(eval.data);
    if (out.empty())
        throw usage_error(
            "{}: there is no file TASK.jsonl of LongBench in it, as of {}", eval.data,
            fmt::join(longbench_tasks() | std::views::transform(&LongBenchTask::name), ", "));
    return out;
}

std::vector<LongBenchQuestion> longbench_questions(const std::vector<LongBenchFile>& files,
                                                   const RunConfig::Eval& eval,
                                                   const LongBenchPrompting& prompting, int context,
                                                   bool buckets, const Tokenizer& tokenizer) {
    std::vector<LongBenchQuestion> out;
    for (const auto& [task, path] : files) {
        LongBenchPrompting mine = prompting;
        if (mine.longest == 0)
            mine.longest = std::max(context - task->max_new_tokens - kSpareTokens, 1);
        int index = 0, taken = 0;
        for (LongBenchRow& row : read_longbench_rows(path)) {
            if (eval.limit > 0 && taken == eval.limit)
                break;
            const std::string id = fmt::format("{}/{}", task->name, index++);
            if (eval.whole_only &&
                int(tokenizer.encode(longbench_text(*task, row), true).size()) > mine.longest)
                continue;
            check_can_be_scored(*task, row, buckets, path);
            out.push_back({task, id, longbench_prompt(*task, row, mine, tokenizer),
                           std::move(row.reference)});
            ++taken;
        }
    }
    if (out.empty())
        throw usage_error(
            "{}: none of its rows has a prompt of at most {} tokens: leave out "
            "--whole-only, or allow longer ones (--longest-prompt)",
            eval.data, prompting.longest);
    return out;
}

std::vector<TokenId> ends_of(const LongBenchTask& task, const Tokenizer& tokenizer) {
    if (!task.stop_at_newline)
        return {};
    const std::vector<TokenId> newline = tokenizer.encode("\n", false);
    return newline.empty() ? std::vector<TokenId>{} : std::vector<TokenId>{newline.back()};
}

std::vector<TaskAnswers> official_files(const std::vector<LongBenchQuestion>& questions,
                                        const std::map<std::string, std::string>& answers) {
    std::vector<TaskAnswers> out;
    for (const LongBenchQuestion& question : questions) {
        if (out.empty() || out.back().task != question.task->name)
            out.push_back({question.task->name, 0, ""});
        const auto answer = answers.find(question.id);
        if (answer == answers.end())
            ++out.back().missing;
        else
            out.back().text += to_line({answer->second, question.reference, 0});
    }
    for (TaskAnswers& task : out)
        if (task.missing > 0)
            task.text.clear();
    return out;
}

}  // namespace cake
