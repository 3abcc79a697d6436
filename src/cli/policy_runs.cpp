#include "cli/policy_runs.h"

#include <filesystem>
#include <fstream>

#include <spdlog/spdlog.h>

#include "cli/prompt.h"
#include "eval/row_files.h"

namespace cake {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

Answers read_answers(const std::string& journal) {
    Answers out;
    if (fs::file_size(journal) > 0)
        for_each_row(journal, [&](const json& row, std::int64_t) {
            if (!row.contains("error"))
                out[text_of(row, "id")] = text_of(row, "text");
        });
    return out;
}

}  // namespace

std::vector<ListedPolicy> policies_to_run(const RunConfig& config, const ModelConfig& model,
                                          const ModelOptions& options, const JobRunFlags& flags) {
    auto policies = eval_policies(config, model);
    if (policies.size() > 1 && !(options.report().empty() && flags.profile.path().empty()))
        throw usage_error(
            "--report and --profile are of one policy, and there are {}: name one with --policies "
            "and --cache-sizes",
            policies.size());
    return policies;
}

bool is_part(const CommandContext& context, const RunConfig& config) {
    const bool part = config.eval.part != "0/1";
    if (part && context.world.rank() == 0)
        spdlog::info("one part is done; a start without --part makes the tables of all");
    return part;
}

std::string folder_of(const std::string& folder, const ListedPolicy& policy) {
    return (fs::path(folder) / policy.label).string();
}

void write_whole(const std::string& path, const std::string& text) {
    const std::string part = path + ".part";
    std::ofstream out(part, std::ios::binary);
    out << text;
    if (!out.flush())
        throw Error(fmt::format("{}: could not be written; is the disk full?", part));
    fs::rename(part, path);
}

ExitCode run_policies(CommandContext& context, const PolicyRuns& runs) {
    World& world = context.world;
    const bool first = world.rank() == 0;
    ExitCode code = ExitCode::Done;
    for (const ListedPolicy& policy : runs.policies) {
        RunConfig one = runs.config;
        one.policy = policy.cells;
        std::string journal;
        std::vector<BatchJob> jobs;
        world.agree([&] {
            if (!first)
                return;
            const std::string folder = folder_of(runs.folder, policy);
            std::error_code failed;
            fs::create_directories(folder, failed);
            if (failed)
                throw usage_error("{}: the folder cannot be made: {}", folder, failed.message());
            journal = (fs::path(folder) / "results.jsonl").string();
            jobs = runs.jobs(policy, one);
            spdlog::info("{}: {} prompts", policy.label, jobs.size());
        });
        const ExitCode done =
            run_jobs(context, {.command = runs.command,
                               .config = one,
                               .signals = runs.signals,
                               .flags = runs.flags,
                               .report = runs.options.report(),
                               .quiet = runs.options.quiet(),
                               .decisive = runs.decisive,
                               .read = [&](const ModelConfig&, const std::string& digest,
                                           std::optional<ResultWriter>& results,
                                           std::optional<Tokenizer>& tokenizer) {
                                   results.emplace(journal, digest);
                                   tokenizer = load_tokenizer(one.model.path);
                                   std::erase_if(jobs, [&](const BatchJob& job) {
                                       return results->done(job.request.id);
                                   });
                                   return std::move(jobs);
                               }});
        world.agree([&] {
            if (first)
                runs.answered(policy, read_answers(journal));
        });
        if (done == ExitCode::Stopped)
            return done;
        if (done != ExitCode::Done)
            code = done;
    }
    return code;
}

}  // namespace cake
