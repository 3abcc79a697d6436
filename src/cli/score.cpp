// `cake score DIR`: LongBench scores of answers that lie in files.
#include "cli/score.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <spdlog/spdlog.h>

#include "io/file_error.h"
#include "io/json_file.h"

namespace cake {
namespace {

std::string result_path(const FolderScores& folder) {
    return (std::filesystem::path(folder.folder) / "result.json").string();
}

// What is there may hold scores that nobody can make again from these files, as of the Chinese tasks.
void refuse_to_lose_scores(const FolderScores& folder) {
    const std::string path = result_path(folder);
    if (!std::filesystem::exists(path))
        return;
    const nlohmann::json there = read_json_file(path);
    for (const auto& [task, score] : there.items())
        if (std::ranges::count(folder.tasks, task, &TaskScores::task) == 0)
            throw usage_error(
                "{}: it has a score of {}, which is not among the answers, and would be lost: move "
                "the file away, or give --table-only",
                path, quote(task));
}

// In the order and form in which the official scorer writes it.
void write_result(const FolderScores& folder, bool buckets) {
    const std::string path = result_path(folder);
    std::ofstream out(path);
    if (!out)
        throw usage_error("{}: cannot be written; --table-only writes no file", path);
    out << official_result(folder, buckets).dump(4) << '\n';
    if (!out.flush())
        throw Error(fmt::format("{}: could not be written; is the disk full?", path));
}

}  // namespace

void write_results(const std::vector<FolderScores>& folders, bool buckets) {
    for (const FolderScores& folder : folders)
        refuse_to_lose_scores(folder);
    for (const FolderScores& folder : folders)
        write_result(folder, buckets);
}

ExitCode run_score(CommandContext& context) {
    CLI::App app(
        "Scores answers to LongBench's English tasks, as the official scorer does. DIR holds "
        "TASK.jsonl files, or folders that do, one per policy. Writes result.json beside the "
        "answers and prints a table.",
        "cake score");
    std::string folder;
    bool buckets = false, table_only = false;
    app.add_option("DIR", folder, "a folder of answers, or of such folders")->required();
    app.add_flag("--e", buckets, "LongBench-E: scores by length of context, 0-4k, 4-8k, 8k+ words");
    app.add_flag("--table-only", table_only, "write no result.json");
    if (const auto over = parse_arguments(context, app))
        return *over;

    std::string table;
    context.world.agree([&] {
        if (context.world.rank() != 0)
            return;
        const std::vector<FolderScores> folders = score_folders(folder);
        table = markdown_table(folders, buckets);
        if (!table_only)
            write_results(folders, buckets);
        if (!same_rows(folders))
            spdlog::warn(
                "folders have answers to different rows of a task: their scores cannot be "
                "compared");
    });
    print_once(context, table);
    return ExitCode::Done;
}

}  // namespace cake
