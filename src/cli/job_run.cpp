#include "cli/job_run.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>

#include <spdlog/spdlog.h>

#include "base/hash.h"
#include "cli/alike.h"
#include "cli/batch_serve.h"
#include "cli/prompt.h"
#include "engine/report.h"

namespace cake {
namespace {

using nlohmann::json;

// All that decides what an answer is: results of two digests do not belong into one file.
std::string config_digest(RunConfig config, const PlanInput& plan, const json& more) {
    config.model.path = std::filesystem::weakly_canonical(config.model.path).string();
    const json all = to_json(resolved_config(config, plan));
    json decisive = {{"cache_dtype", all["engine"]["cache_dtype"]}};
    if (!more.is_null())
        decisive["more"] = more;
    for (const char* key : {"model", "policy", "generation", "chat"})
        decisive[key] = all[key];
    return hex64(fnv1a(decisive.dump()));
}

// The plan for the jobs that can be done; those whose prompts this host has no memory for are refused.
void plan_jobs(std::vector<BatchJob>& jobs, PlanInput& plan, Backend& dev, const World& world) {
    std::vector<int> lengths;
    for (const BatchJob& job : jobs)
        if (job.error.empty())
            lengths.push_back(int(job.request.prompt.size()));
    std::sort(lengths.begin(), lengths.end());
    const auto too_long = std::partition_point(lengths.begin(), lengths.end(), [&](int length) {
        plan.prompt = length;
        return fits_without_pool(plan, dev, world);
    });
    if (lengths.empty() || too_long == lengths.end())
        return;
    if (too_long == lengths.begin()) {  // not even the shortest: that is no job's fault
        plan.prompt = lengths.front();
        check_memory(plan, dev, world);
        return;
    }
    refuse_long(jobs, *std::prev(too_long));
}

// The last moment to take a job; nothing: there is none.
std::optional<WallClock::time_point> last_take(const std::optional<double>& margin_s) {
    std::string unknown;
    const auto end = margin_s ? slurm_job_end(&unknown) : std::nullopt;
    if (!unknown.empty())
        spdlog::warn("--time-limit-margin: the end of the job is not known, {}: all jobs are taken",
                     unknown);
    if (!end)
        return {};
    // Else the job would end at once, be queued again, and so on.
    if (const char* start = std::getenv("SLURM_JOB_START_TIME"); start && std::atoll(start) > 0) {
        const auto began = WallClock::time_point(std::chrono::seconds(std::atoll(start)));
        const std::chrono::duration<double> whole = *end - began;
        if (*margin_s >= whole.count())
            throw usage_error(
                "--time-limit-margin is {:g} s, and the whole job has {:.0f} s: no job could ever "
                "be begun; give it more time (#SBATCH --time), or a smaller margin",
                *margin_s, whole.count());
    }
    return *end - std::chrono::duration_cast<WallClock::duration>(
                      std::chrono::duration<double>(*margin_s));
}

// What is left to say where no job can be done, and no model was loaded.
json report_of_nothing(const JobRun& run, const PlanInput& plan, const JobServer& server) {
    json report{{"schema", "cake.report/1"},
                {"version", CAKE_VERSION},
                {"command", run.command},
                {"config", to_json(resolved_config(run.config, plan))},
                {"requests", server.kept()}};
    for (const char* key : {"model", "machine", "memory", "time", "traffic", "roofline"})
        report[key] = nullptr;
    return report;
}

}  // namespace

void JobRunFlags::add_to(CLI::App& app) {
    app.add_option("--time-limit-margin", margin_s,
                   "takes no new job when less than this is left until Slurm ends the job; "
                   "exit code 75 then")
        ->type_name("SECONDS")
        ->check(CLI::NonNegativeNumber);
    profile.add_to(app);
}

ExitCode run_jobs(CommandContext& context, const JobRun& run) {
    const RunConfig& config = run.config;
    Profile& profile = run.flags.profile;
    World& world = context.world;
    const bool first = world.rank() == 0;

    world.status().at(first ? RunPart::Input : RunPart::Start);
    check_same_model(world, config.model.path);
    const GpuSurvey gpus = find_gpus(config, world);
    std::unique_ptr<Backend> dev;
    std::optional<Tokenizer> tokenizer;
    std::optional<ResultWriter> results;
    std::vector<BatchJob> jobs;
    PlanInput plan;
    BatchLimits limits;
    std::optional<WallClock::time_point> last;  // rank 0's
    world.agree([&] {
        const int ranks = replica_ranks(config, world.size());
        const ModelConfig model = read_model(config);
        dev = make_backend(config, gpus, world);
        check_types(config, dev->types());
        plan = plan_input(config, model, ranks, 1, 1, dev->types());
        plan.overlap = speaks_nccl(config, *dev, ranks);
        plan.shorter = true;
        shard_of(model, ranks, world.rank() % ranks);
        if (first) {
            check_writable(run.report);
            check_writable(profile.path());
            jobs = run.read(model, config_digest(config, plan, run.decisive), results, tokenizer);
            plan_jobs(jobs, plan, *dev, world);
            last = last_take(run.flags.margin_s);
            if (!last || WallClock::now() < *last)  // else no model is loaded
                limits = limits_of(jobs);
        } else if (world.rank() % ranks == 0) {
            tokenizer = tokenizer_or_none(config.model.path);
        }
    });
    world.comm().broadcast_bytes(std::as_writable_bytes(std::span(&limits, 1)), 0);
    plan.prompt = limits.prompt;
    plan.new_tokens = limits.new_tokens;
    plan.batch = std::min(config.engine.max_batch, limits.jobs);
    const std::int64_t done_before = first ? std::int64_t(results->n_done()) : 0;

    std::unique_ptr<Communicator> group;
    std::unique_ptr<Engine> engine;
    if (limits.jobs > 0) {
        fit_pool(plan, config, *dev, world);
        world.agree([&] { check_memory(plan, *dev, world); });
        refuse_large(jobs, plan);
        group = make_group(config, world, *dev, world.rank() / plan.ranks);
        engine = load_engine(context, *dev, *group, config, plan, run.quiet);
        profile.start(world, *engine);
    }

    std::optional<JobServer> server;
    if (first)
        server.emplace(std::move(jobs), *results, config.policy.name, !run.report.empty(),
                       run.quiet);
    if (last)
        server->take_none_after(*last);
    bool all_served = true;
    if (engine)
        all_served =
            serve_jobs(world, *engine, {config, tokenizer, run.signals, run.layers}, server);
    else if (first)
        server->take();  // writes what is wrong with each

    world.status().at(RunPart::Write);
    const double wall_s = first ? server->seconds() : 0;
    const ReportContext facts{config, run.command, world.host(), dev->info().threads};
    json report;
    if (engine)
        profile.write(world, *engine);
    if (engine)
        report = make_report(*engine, world.comm(), facts, first ? server->kept() : json::array());
    else if (first)
        report = report_of_nothing(run, plan, *server);
    std::int32_t code = std::int32_t(ExitCode::Done);
    if (first) {
        server->close();
        report["summary"] = server->summary().to_json(report, done_before, wall_s);
        if (!run.report.empty())
            write_json(run.report, report);
        if (!run.quiet)
            fmt::print(stderr, "{}", summary_text(report["summary"]));
        if (!all_served)
            spdlog::warn("stopped by a signal: start again with the same files to go on");
        if (server->not_begun() > 0)
            spdlog::warn(
                "less than {} s are left of the Slurm job, and {} jobs are not begun: start again "
                "with the same files to go on",
                *run.flags.margin_s, server->not_begun());
        if (!all_served || server->not_begun() > 0)
            code = std::int32_t(ExitCode::Stopped);
        else if (server->summary().failed() > 0 || results->n_failed() > 0)
            code = std::int32_t(ExitCode::SomeFailed);
    }
    world.comm().broadcast_bytes(std::as_writable_bytes(std::span(&code, 1)), 0);
    return ExitCode(code);
}

}  // namespace cake
