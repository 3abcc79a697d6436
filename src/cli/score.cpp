// `cake score DIR`: LongBench scores of answers that lie in files.
#include <fstream>

#include <spdlog/spdlog.h>

#include "cli/cli.h"
#include "eval/longbench_score.h"

namespace cake {
namespace {

// In the order and form in which the official scorer writes it.
void write_result(const FolderScores& folder, bool buckets) {
    const std::string path = folder.folder + "/result.json";
    std::ofstream out(path);
    if (!out)
        throw usage_error("{}: cannot be written; --table-only writes no file", path);
    out << official_result(folder, buckets).dump(4) << '\n';
    if (!out.flush())
        throw Error(fmt::format("{}: could not be written; is the disk full?", path));
}

}  // namespace

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
            for (const FolderScores& scored : folders)
                write_result(scored, buckets);
        if (!same_rows(folders))
            spdlog::warn(
                "folders have different numbers of answers to a task: their scores are of "
                "different rows and cannot be compared");
    });
    print_once(context, table);
    return ExitCode::Done;
}

}  // namespace cake
