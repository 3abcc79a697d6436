// `cake bench`: speed and memory of policies, cache sizes, prompts and batches, or of a trace of requests.
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>

#include <spdlog/spdlog.h>

#include "base/hash.h"
#include "base/progress.h"
#include "base/stop_signals.h"
#include "bench/ceilings.h"
#include "bench/kernels.h"
#include "bench/study.h"
#include "bench/sweep.h"
#include "bench/table.h"
#include "cli/alike.h"
#include "cli/bench_inputs.h"
#include "cli/options.h"
#include "io/jobs.h"
#include "io/json_file.h"

namespace cake {
namespace {

using nlohmann::json;

constexpr Flag kFlags[] = {
    {"--policies", "bench.policies", "NAME,..."},
    {"--cache-sizes", "bench.cache_sizes", "C,..."},
    {"--prompts", "bench.prompts", "N,..."},
    {"--batches", "bench.batches", "N,..."},
    {"--new-tokens", "bench.new_tokens", "N,..."},
    {"--repeat", "bench.repeat", "N"},
    {"--warmup", "bench.warmup", "N"},
    {"--text", "bench.text", "FILE"},
    {"--requests", "bench.requests", "FILE"},
    {"--max-requests", "bench.max_requests", "N"},
    {"--time-scale", "bench.time_scale", "X"},
    {"--length-scale", "bench.length_scale", "X"},
};

// Rows of two digests were not measured on the same thing. The lists may change: a sweep can be widened.
std::string study_digest(const RunConfig& config, const PlanInput& plan, int threads,
                         std::optional<std::uint64_t> random) {
    json all = to_json(config);
    for (const char* key : {"bench", "generation", "chat", "check"})
        all.erase(key);
    all["what"] = {plan.ranks,         threads,           random.value_or(0),
                   random.has_value(), config.bench.seed, config.bench.text};
    if (json sampling = sampling_json(sampling_of(config)); !sampling.is_null())
        all["sampling"] = std::move(sampling);
    return hex64(fnv1a(all.dump()));
}

std::vector<json> rows_of(const std::string& path) {
    std::vector<json> out;
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);)
        out.push_back(parse_json(line, path));
    return out;
}

// Where rows are kept. On other ranks than 0 it holds what is done, and keeps nothing.
class Rows {
public:
    // Collective: which rows of `folder` (empty: none is written) are there already.
    Rows(World& world, const std::string& folder, const std::string& digest) : folder_(folder) {
        std::string ids;  // a line each
        world.agree([&] {
            if (world.rank() != 0 || folder.empty())
                return;
            std::filesystem::create_directories(folder);
            file_.emplace(folder + "/bench.jsonl", digest);
            all_ = rows_of(folder + "/bench.jsonl");
            for (const json& row : all_)
                ids += row.value("id", "") + "\n";
        });
        std::vector<char> sent(ids.begin(), ids.end());
        broadcast_vector(world.comm(), sent);
        std::istringstream lines(std::string(sent.begin(), sent.end()));
        for (std::string id; std::getline(lines, id);)
            done.insert(id);
    }

    void keep(json row) {
        if (file_)
            file_->write(row);
        all_.push_back(std::move(row));
    }
    // The table, and bench.csv.
    void finish() const {
        fmt::print("{}", markdown_table(all_));
        flush_output();
        if (!folder_.empty())
            std::ofstream(folder_ + "/bench.csv") << csv_table(all_);
    }

    std::set<std::string> done;

private:
    std::string folder_;
    std::optional<ResultWriter> file_;
    std::vector<json> all_;
};

json facts(const World& world, Backend& dev, const RunConfig& config, const PlanInput& plan,
           bool random) {
    const ModelConfig& model = plan.model;
    return {{"version", CAKE_VERSION},
            {"machine",
             {{"host", world.host()},
              {"device", dev.info().name},
              {"ranks", world.size()},
              {"threads", dev.info().threads},
              {"backend", dev.name()}}},
            {"model",
             {{"path", config.model.path},
              {"architecture", model.architecture},
              {"layers", model.n_layers},
              {"parameters", model.parameters()},
              {"dtype", name(plan.weights.main())},
              {"random_weights", random}}}};
}

// The first policy, cache size, prompt and batch of the lists, on each rank by itself; rank 0's are shown.
void bench_kernels(CommandContext& context, const RunConfig& config, const ModelConfig& model,
                   Backend& dev, Communicator& group, const std::string& folder) {
    World& world = context.world;
    PlanInput plan =
        study_plan(config, model, world.size(), config.bench.prompts.front(), dev.types());
    plan.batch = config.bench.batches.front();
    plan.overlap = speaks_nccl(config, dev, plan.ranks);
    world.agree([&] {
        fit_context(model, plan.prompt, 1);
        const PageLayout layout = page_layout(plan, shard_of(model, plan.ranks, world.rank()));
        const std::size_t pages = std::size_t(layout.pages_for(plan.prompt + 1)) * layout.bytes(),
                          needed = std::size_t(plan.batch) * pages, free = dev.info().free_bytes;
        if (needed > free)
            throw usage_error(
                "keys and values of a layer take {} for {} sequences of {} tokens, and {} is free: "
                "give smaller --batches or --prompts",
                human_bytes(double(needed)), plan.batch, plan.prompt, human_bytes(double(free)));
    });
    Ceilings alone;
    measure_ceilings(dev, group, alone);
    const std::vector<KernelTime> times = time_kernels(dev, plan, world.rank());
    print_once(context, kernel_table(times, alone));
    if (world.rank() != 0 || folder.empty())
        return;
    std::filesystem::create_directories(folder);
    const json ceilings = {{"read_gb_s", alone.read_gb_s}, {"gemm_tflop_s", alone.gemm_tflop_s}};
    write_json(folder + "/kernels.json", {{"ceilings", ceilings}, {"kernels", to_json(times)}});
}

}  // namespace

ExitCode run_bench(CommandContext& context) {
    CLI::App app("Speed and memory of policies, cache sizes, prompts and batches.", "cake bench");
    ModelOptions options(app, kFlags);
    std::string output;
    bool only_ceilings = false, only_kernels = false;
    std::uint64_t seed = 0;
    app.add_option("--output", output, "a folder for bench.jsonl and bench.csv; goes on there")
        ->type_name("DIR");
    app.add_flag("--ceilings", only_ceilings,
                 "measure the machine alone; prints a file for `cake plan --machine`");
    app.add_flag("--kernels", only_kernels,
                 "measure each kernel alone, at the shapes of the first policy, prompt and batch")
        ->excludes("--ceilings");
    CLI::Option* random_weights = app.add_option(
        "--random-weights", seed, "weights of this seed; a config.json is enough for a model");
    if (const auto over = parse_arguments(context, app))
        return *over;
    const RunConfig config = options.resolve(context);
    World& world = context.world;
    const bool first = world.rank() == 0;
    const auto random = random_weights->count() > 0 ? std::optional(seed) : std::nullopt;

    world.status().at(first ? RunPart::Input : RunPart::Start);
    check_same_model(world, config.model.path);
    const GpuSurvey gpus = find_gpus(config, world);
    std::unique_ptr<Backend> dev;
    ModelConfig model;
    std::vector<TraceRequest> trace;
    world.agree([&] {
        check_one_replica(config, world.size());
        model = read_model(config);
        dev = make_backend(config, gpus, world);
        check_types(config, dev->types());
        shard_of(model, world.size(), world.rank());
        study_policies(config, model);
        if (config.bench.requests.empty() && Sampler(sampling_of(config)).needs_logits())
            throw usage_error(
                "generation.repetition_penalty and generation.logprobs need all logits on the "
                "host, and the steps that bench measures do without: leave them unset");
        if (!config.bench.requests.empty())
            trace = read_trace(config.bench);
    });
    const auto group = make_group(config, world, *dev, 0);
    if (only_ceilings) {
        print_once(context, machine_yaml(*dev, *group, model, world.host(), world.local_size()));
        return ExitCode::Done;
    }
    if (only_kernels) {
        bench_kernels(context, config, model, *dev, *group, output);
        return ExitCode::Done;
    }
    const StopSignals signals;
    const Prompts prompts(world, config, model.vocab);
    const SweepPlan study = trace.empty()
                                ? plan_sweep(world, config, model, *dev)
                                : SweepPlan{plan_trace(world, config, model, *dev, trace), {}, {}};
    Rows rows(world, output, study_digest(config, study.plan, dev->info().threads, random));
    for (const json& misfit : study.misfits)
        if (first && !rows.done.contains(misfit["id"]))
            rows.keep(misfit);

    bool all_done = true;
    if (!trace.empty() || !study.prompts.empty()) {
        Ceilings all, alone;
        if (trace.empty())
            all = measure_ceilings(*dev, *group, alone);
        const auto engine =
            load_engine(context, *dev, *group, config, study.plan, options.quiet(), random);
        const json about = facts(world, *dev, config, study.plan, random.has_value());
        if (!trace.empty()) {
            json row = play_trace(*engine, config, trace, sampling_of(config));
            row["id"] = fmt::format("requests/{}", rows.done.size());
            row.update(about);
            print_once(context, row.dump(1) + "\n");
            if (first)
                rows.keep(std::move(row));
            return ExitCode::Done;
        }
        Progress bar("bench, rows", count_rows(config, model, study.prompts),
                     first && !options.quiet());
        std::int64_t n = std::int64_t(rows.done.size());
        const Sweep sweep{.prompts = study.prompts,
                          .done = rows.done,
                          .prompt = prompts,
                          .row =
                              [&](const std::string& id, json row) {
                                  row["id"] = id;
                                  row.update(about);
                                  rows.keep(std::move(row));
                                  bar.update(++n);
                              },
                          .stopped = [&] { return signals.came(); },
                          .all = all,
                          .alone = alone,
                          .sampling = sampling_of(config)};
        all_done = run_sweep(*engine, config, sweep);
    }
    if (first)
        rows.finish();
    if (first && !all_done)
        spdlog::warn("stopped by a signal: start again to go on");
    return all_done ? ExitCode::Done : ExitCode::Stopped;
}

}  // namespace cake
