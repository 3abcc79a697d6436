// `cake batch`: many prompts from a file of jobs, answers to a file of results, by one or several replicas of the model.
#include <filesystem>
#include <optional>
#include <unordered_map>

#include <spdlog/spdlog.h>

#include "base/hash.h"
#include "base/stop_signals.h"
#include "cli/job_server.h"
#include "cli/options.h"
#include "cli/prompt.h"
#include "cli/session.h"
#include "cli/text_stream.h"
#include "engine/report.h"
#include "engine/request_report.h"
#include "engine/scheduler.h"

namespace cake {
namespace {

using nlohmann::json;

struct BatchOptions {
    std::string input, output;
    bool append_anyway = false, layers = false;
};

// All that decides what an answer is: results of two digests do not belong into one file.
std::string config_digest(RunConfig config, const PlanInput& plan) {
    config.model.path = std::filesystem::weakly_canonical(config.model.path).string();
    const json all = to_json(resolved_config(config, plan));
    json decisive = {{"cache_dtype", all["engine"]["cache_dtype"]}};
    for (const char* key : {"model", "policy", "generation", "chat"})
        decisive[key] = all[key];
    return hex64(fnv1a(decisive.dump()));
}

// What a replica's ranks do with requests; `port` is the leader's.
Feed feed_of(Engine& engine, JobPort& port, const std::optional<Tokenizer>& tokenizer,
             const StopSignals& signals, std::unordered_map<std::string, TextStream>& texts) {
    Feed feed;
    feed.next = [&]() -> std::optional<Request> {
        auto job = port.take();
        if (!job)
            return {};
        texts.try_emplace(job->request.id, tokenizer, job->stop, nullptr);
        job->request.end_of_sequence = port.end_of_sequence;
        return std::move(job->request);
    };
    feed.on_token = [&](const Request& request, TokenId id) {
        port.token();
        return texts.at(request.id).take(id);
    };
    feed.done = [&](const Request& request, const Generation& generation) {
        const bool leads = engine.comm().rank() == 0;
        const std::string text = leads && tokenizer ? texts.at(request.id).finish() : std::string();
        json result = request_json(engine, request, generation, text);
        if (!leads)
            return;
        if (generation.layers.empty())
            result.erase("layers");
        texts.erase(request.id);
        port.finish(result, generation.timings.inter_token_ms);
    };
    feed.stopped = [&] { return signals.came(); };
    return feed;
}

// Every job has a result, or cannot have one.
ExitCode nothing_to_do(std::vector<BatchJob> jobs, std::optional<ResultWriter>& results,
                       const std::string& policy) {
    if (!results)
        return ExitCode::Done;
    const std::size_t before = results->n_done();
    JobServer server(std::move(jobs), *results, policy, false, true);
    server.take();
    spdlog::info("no job is left to do: {} have results, {} cannot be done", before,
                 server.summary().failed());
    return server.summary().failed() > 0 ? ExitCode::SomeFailed : ExitCode::Done;
}

}  // namespace

ExitCode run_batch(CommandContext& context) {
    CLI::App app("Many prompts from a file of jobs; goes on where it stopped.", "cake batch");
    ModelOptions options(app);
    BatchOptions batch;
    app.add_option("--input", batch.input, "jobs, a JSON object a line; - is standard input")
        ->type_name("FILE")
        ->required();
    app.add_option("--output", batch.output,
                   "results, a JSON object a line; jobs that have one are passed over; - is "
                   "standard output")
        ->type_name("FILE")
        ->required();
    app.add_flag("--append-anyway", batch.append_anyway,
                 "also to results of another configuration");
    app.add_flag("--layers", batch.layers, "what each layer kept, in each result");
    if (const auto over = parse_arguments(context, app))
        return *over;
    const RunConfig config = options.resolve(context);
    World& world = context.world;
    const bool first = world.rank() == 0;
    const StopSignals signals;

    context.phase = "jobs";
    std::unique_ptr<Backend> dev;
    std::optional<Tokenizer> tokenizer;
    std::optional<ResultWriter> results;
    std::vector<BatchJob> jobs;
    PlanInput plan;
    world.agree([&] {
        check_supported(config);
        const int ranks = replica_ranks(config, world.size());
        const ModelConfig model = read_model(config);
        dev = make_backend(config, world);
        plan = plan_input(config, model, ranks, 1, 1);
        shard_of(model, ranks, world.rank() % ranks);
        if (first) {
            check_writable(options.report());
            results.emplace(batch.output, config_digest(config, plan), batch.append_anyway);
            jobs = read_jobs(batch.input, config, model, *results, tokenizer);
        } else if (world.rank() % ranks == 0) {
            tokenizer = tokenizer_or_none(config.model.path);
        }
    });
    BatchLimits limits = limits_of(jobs);
    world.comm().broadcast_bytes(std::as_writable_bytes(std::span(&limits, 1)), 0);
    plan.prompt = limits.prompt;
    plan.new_tokens = limits.new_tokens;
    plan.shorter = true;
    plan.batch = std::min(config.engine.max_batch, limits.jobs);
    const std::int64_t done_before = first ? std::int64_t(results->n_done()) : 0;
    if (limits.jobs == 0)
        return nothing_to_do(std::move(jobs), results, config.policy.name);
    fit_pool(plan, config, *dev, world);
    world.agree([&] {
        check_memory(plan, *dev, world);
        if (first)
            refuse_largest(jobs, plan);
    });

    const int replicas = world.size() / plan.ranks;
    const auto group = world.comm().split(world.rank() / plan.ranks);
    const auto engine = load_engine(context, *dev, *group, config, plan, options.quiet());

    context.phase = "batch";
    std::optional<Mailbox> mailbox;
    if (replicas > 1)
        mailbox.emplace();
    std::optional<JobServer> server;
    std::optional<JobService> service;
    std::optional<RemoteJobs> remote;
    JobPort port;
    if (first) {
        server.emplace(std::move(jobs), *results, config.policy.name, !options.report().empty(),
                       options.quiet());
        if (replicas > 1)
            service.emplace(*server, *mailbox, replicas - 1);
        port = server->port();
    } else if (group->rank() == 0) {
        port = remote.emplace(*mailbox, sampling_of(config)).port();
    }
    if (tokenizer && !config.generation.ignore_eos)
        port.end_of_sequence = tokenizer->end_of_sequence();
    std::unordered_map<std::string, TextStream> texts;
    bool all_served = serve(*engine, feed_of(*engine, port, tokenizer, signals, texts),
                            {.interleave = config.engine.interleave,
                             .layers = batch.layers,
                             .prefill = {.check = config.check}});
    if (remote)
        remote->goodbye();
    if (service)
        service->wait();
    for (const std::string& theirs : world.comm().gather_strings(all_served ? "" : "stopped"))
        all_served = all_served && theirs.empty();

    context.phase = "report";
    const double wall_s = first ? server->seconds() : 0;
    const ReportContext facts{config, "batch", world.host(), dev->info().threads};
    json report = make_report(*engine, world.comm(), facts, first ? server->kept() : json::array());
    std::int32_t failed = 0;
    if (first) {
        report["summary"] = server->summary().to_json(report, done_before, wall_s);
        failed = std::int32_t(server->summary().failed());
        if (!options.report().empty())
            write_json(options.report(), report);
        if (!options.quiet())
            fmt::print(stderr, "{}", summary_text(report["summary"]));
        if (!all_served)
            spdlog::warn("stopped by a signal: start again with the same files to go on");
    }
    world.comm().broadcast_bytes(std::as_writable_bytes(std::span(&failed, 1)), 0);
    if (!all_served)
        return ExitCode::Stopped;
    return failed > 0 ? ExitCode::SomeFailed : ExitCode::Done;
}

}  // namespace cake
