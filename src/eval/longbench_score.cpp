#include "eval/longbench_score.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <ranges>

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "base/hash.h"
#include "io/file_error.h"

namespace cake {
namespace {

namespace fs = std::filesystem;

// Python's lstrip("\n").split("\n")[0]
std::string_view first_line(std::string_view text) {
    text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
    return text.substr(0, text.find('\n'));
}

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

// Entries of a folder, by name; hidden ones left out.
std::vector<fs::path> entries_of(const std::string& folder) {
    std::error_code error;
    std::vector<fs::path> out;
    for (const auto& entry : fs::directory_iterator(folder, error))
        if (!is_hidden(entry.path()))
            out.push_back(entry.path());
    if (error)
        throw usage_error("{}: cannot be read as a folder: {}", folder, error.message());
    std::ranges::sort(out);
    return out;
}

// The last name of a path, also of one that ends in a slash or in dots.
std::string name_of(const std::string& folder) {
    std::error_code ignored;
    const fs::path path = fs::weakly_canonical(folder, ignored);
    return path.filename().empty() ? folder : path.filename().string();
}

// Nothing where the folder has no files of answers.
std::optional<FolderScores> score_folder(const std::string& folder) {
    FolderScores out{folder, name_of(folder), {}};
    std::vector<std::string> names;
    for (const fs::path& path : entries_of(folder)) {
        if (path.extension() != ".jsonl" || !fs::is_regular_file(path))
            continue;
        const std::string name = path.stem().string();
        if (name == "results")  // what `eval longbench` keeps its answers in until a task is whole
            continue;
        if (is_chinese_longbench_task(name)) {
            spdlog::warn("{}: passed over, the English tasks of LongBench are scored",
                         path.string());
            continue;
        }
        try {
            longbench_task(name);
        } catch (const Error& error) {
            throw usage_error("{}: {}", path.string(), error.what());
        }
        names.push_back(name);
    }
    if (names.empty())
        return {};
    for (const LongBenchTask& task : longbench_tasks())
        if (std::ranges::count(names, task.name) > 0)
            out.tasks.push_back(
                score_file((fs::path(folder) / (task.name + ".jsonl")).string(), task));
    return out;
}

const TaskScores* find_task(const FolderScores& folder, const std::string& name) {
    const auto found = std::ranges::find(folder.tasks, name, &TaskScores::task);
    return found == folder.tasks.end() ? nullptr : &*found;
}

// Tasks that any folder has, in the order of longbench_tasks().
std::vector<std::string> columns_of(std::span<const FolderScores> folders) {
    std::vector<std::string> out;
    for (const LongBenchTask& task : longbench_tasks())
        if (std::ranges::any_of(folders,
                                [&](const auto& f) { return find_task(f, task.name) != nullptr; }))
            out.push_back(task.name);
    return out;
}

// Fewest and most answers to a task, of the folders that have it.
std::pair<std::size_t, std::size_t> counts_of(std::span<const FolderScores> folders,
                                              const std::string& task) {
    std::size_t fewest = std::numeric_limits<std::size_t>::max(), most = 0;
    for (const FolderScores& folder : folders)
        if (const TaskScores* scores = find_task(folder, task)) {
            fewest = std::min(fewest, scores->rows.size());
            most = std::max(most, scores->rows.size());
        }
    return {fewest, most};
}

std::string shown(double percent) {
    return std::isnan(percent) ? "-" : fmt::format("{:.2f}", percent);
}

std::string cell(const TaskScores* task, bool buckets) {
    if (!task)
        return "-";
    if (!buckets)
        return shown(percent(task->rows));
    std::vector<std::string> parts;
    for (const LengthBucket& bucket : by_length(*task))
        parts.push_back(shown(percent(bucket.rows)));
    return fmt::format("{}", fmt::join(parts, " / "));
}

// The mean of a folder's scores, each as it is shown; nothing where it lacks a column.
std::string average(const FolderScores& folder, const std::vector<std::string>& columns) {
    if (folder.tasks.size() < columns.size())
        return "-";
    double sum = 0;
    for (const TaskScores& task : folder.tasks)
        sum += percent(task.rows);
    return shown(sum / double(columns.size()));
}

}  // namespace

double score_row(const LongBenchTask& task, const Prediction& prediction) {
    const std::string_view pred =
        task.first_line ? first_line(prediction.pred) : std::string_view(prediction.pred);
    std::span<const std::string> classes;
    if (task.metric == Metric::Classification) {
        if (!prediction.reference.all_classes)
            throw usage_error("{} is scored by its classes, and 'all_classes' is null", task.name);
        classes = *prediction.reference.all_classes;
    }
    double best = 0;
    for (const std::string& answer : prediction.reference.answers)
        best = std::max(best, metric_score(task.metric, pred, answer, classes));
    return best;
}

TaskScores score_file(const std::string& path, const LongBenchTask& task) {
    TaskScores out;
    out.task = task.name;
    const std::vector<Prediction> predictions = read_predictions(path);
    std::string judged_by;
    for (const Prediction& prediction : predictions) {
        try {
            out.rows.push_back(score_row(task, prediction));
        } catch (const Error& error) {
            throw usage_error("{}:{}: {}", path, prediction.line, error.what());
        }
        if (prediction.reference.length)
            out.lengths.push_back(*prediction.reference.length);
        judged_by += to_line({"", prediction.reference});
    }
    out.references = fnv1a(judged_by);
    if (out.lengths.size() < out.rows.size())
        out.lengths.clear();
    return out;
}

std::vector<FolderScores> score_subfolders(const std::string& folder) {
    std::vector<FolderScores> out;
    for (const fs::path& path : entries_of(folder))
        if (fs::is_directory(path))
            if (auto scores = score_folder(path.string()))
                out.push_back(*std::move(scores));
    return out;
}

std::vector<FolderScores> score_folders(const std::string& folder) {
    auto itself = score_folder(folder);
    std::vector<FolderScores> out = score_subfolders(folder);
    if (itself)
        out.insert(out.begin(), *std::move(itself));
    if (out.empty())
        throw usage_error(
            "{}: there are no answers to score: neither it nor a folder in it has a file "
            "TASK.jsonl, as of {}",
            folder,
            fmt::join(longbench_tasks() | std::views::transform(&LongBenchTask::name), ", "));
    return out;
}

double percent(std::span<const double> scores) {
    if (scores.empty())
        return std::numeric_limits<double>::quiet_NaN();
    const double sum = std::accumulate(scores.begin(), scores.end(), 0.0);
    // The decimal that is nearest to the exact value, as Python has it; a product with 100 would be rounded before.
    return std::stod(fmt::format("{:.2f}", 100 * sum / double(scores.size())));
}

std::vector<LengthBucket> by_length(const TaskScores& task) {
    if (task.lengths.size() != task.rows.size())
        throw usage_error("{}: rows without a 'length' belong to no bucket of LongBench-E",
                          task.task);
    std::vector<LengthBucket> buckets{{"0-4k", {}}, {"4-8k", {}}, {"8k+", {}}};
    for (std::size_t i = 0; i < task.rows.size(); ++i) {
        const std::int64_t words = task.lengths[i];
        buckets[words < 4000 ? 0 : words < 8000 ? 1 : 2].rows.push_back(task.rows[i]);
    }
    return buckets;
}

nlohmann::ordered_json official_result(const FolderScores& folder, bool buckets) {
    nlohmann::ordered_json out;  // NaN is written as null
    for (const TaskScores& task : folder.tasks) {
        if (!buckets) {
            out[task.task] = percent(task.rows);
            continue;
        }
        for (const LengthBucket& bucket : by_length(task))
            out[task.task][bucket.name] = percent(bucket.rows);
    }
    return out;
}

std::string markdown_table(std::span<const FolderScores> folders, bool buckets) {
    const std::vector<std::string> columns = columns_of(folders);
    std::string out = fmt::format("| | {} |", fmt::join(columns, " | "));
    out += buckets ? "\n|---|" : " average |\n|---|--:|";
    for (std::size_t i = 0; i < columns.size(); ++i)
        out += "--:|";
    for (const FolderScores& folder : folders) {
        out += fmt::format("\n| {} |", folder.name);
        for (const std::string& task : columns)
            out += fmt::format(" {} |", cell(find_task(folder, task), buckets));
        if (!buckets)
            out += fmt::format(" {} |", average(folder, columns));
    }
    out += "\n| rows |";
    for (const std::string& task : columns) {
        const auto [fewest, most] = counts_of(folders, task);
        out += fewest == most ? fmt::format(" {} |", most) : fmt::format(" {}-{} |", fewest, most);
    }
    return out + (buckets ? "\n" : " |\n");
}

bool same_rows(std::span<const FolderScores> folders) {
    std::map<std::string, std::uint64_t> references;
    for (const FolderScores& folder : folders)
        for (const TaskScores& task : folder.tasks)
            if (references.try_emplace(task.task, task.references).first->second != task.references)
                return false;
    return true;
}

}  // namespace cake
