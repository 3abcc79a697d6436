// `cake bench`: speed and memory of policies, cache sizes, prompts and batches, or of a trace of requests.
#include <algorithm>
#include <filesystem>
#include <random>

#include <spdlog/spdlog.h>

#include "base/hash.h"
#include "base/progress.h"
#include "base/stop_signals.h"
#include "bench/ceilings.h"
#include "bench/sweep.h"
#include "bench/table.h"
#include "bench/trace.h"
#include "cli/options.h"
#include "cli/prompt.h"
#include "cli/session.h"
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
    all["what"] = {plan.ranks, threads, random.value_or(0), random.has_value()};
    return hex64(fnv1a(all.dump()));
}

// Texts are repeated to the length that is asked for.
class Prompts {
public:
    Prompts(std::uint64_t seed, int vocabulary) : seed_(seed), vocabulary_(vocabulary) {}
    std::vector<TokenId> text;  // empty: random tokens

    std::vector<TokenId> operator()(int length) const {
        std::vector<TokenId> out;
        std::mt19937_64 random(seed_);
        for (int i = 0; i < length; ++i)
            out.push_back(text.empty() ? TokenId(random() % std::uint64_t(vocabulary_))
                                       : text[std::size_t(i) % text.size()]);
        return out;
    }

private:
    std::uint64_t seed_;
    int vocabulary_;
};

std::vector<json> rows_of(const std::string& path) {
    std::vector<json> out;
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);)
        out.push_back(parse_json(line, path));
    return out;
}

template <typename T>
void broadcast_vector(Communicator& comm, std::vector<T>& values) {
    std::int64_t n = std::int64_t(values.size());
    comm.broadcast_bytes(std::as_writable_bytes(std::span(&n, 1)), 0);
    values.resize(std::size_t(n));
    comm.broadcast_bytes(std::as_writable_bytes(std::span(values)), 0);
}

}  // namespace

ExitCode run_bench(CommandContext& context) {
    const StopSignals signals;
    CLI::App app("Speed and memory of policies, cache sizes, prompts and batches.", "cake bench");
    ModelOptions options(app, kFlags);
    std::string output;
    bool only_ceilings = false;
    std::uint64_t seed = 0;
    app.add_option("--output", output, "a folder for bench.jsonl and bench.csv; goes on there")
        ->type_name("DIR");
    app.add_flag("--ceilings", only_ceilings,
                 "measure the machine alone; prints a file for `cake plan --machine`");
    CLI::Option* random_weights = app.add_option(
        "--random-weights", seed, "weights of this seed; a config.json is enough for a model");
    if (const auto over = parse_arguments(context, app))
        return *over;
    const RunConfig config = options.resolve(context);
    World& world = context.world;
    const bool first = world.rank() == 0;
    const auto random = random_weights->count() > 0 ? std::optional(seed) : std::nullopt;

    context.phase = "study";
    std::unique_ptr<Backend> dev;
    ModelConfig model;
    std::vector<TraceRequest> trace;
    std::vector<TokenId> text;
    std::vector<int> prompts = config.bench.prompts;
    std::sort(prompts.begin(), prompts.end());
    world.agree([&] {
        check_supported(config);
        check_one_replica(config, world.size());
        model = read_model(config);
        dev = make_backend(config, world);
        shard_of(model, world.size(), world.rank());
        study_policies(config, model);
        if (!config.bench.requests.empty())
            trace = read_trace(config.bench);
        if (first && !config.bench.text.empty())
            text =
                load_tokenizer(config.model.path).encode(read_text_file(config.bench.text), true);
    });
    broadcast_vector(world.comm(), text);
    if (only_ceilings) {
        const std::string yaml =
            machine_yaml(*dev, world.comm(), model, world.host(), world.local_size());
        print_once(context, yaml);
        return ExitCode::Done;
    }

    // What does not fit is told, not tried.
    PlanInput plan;
    std::vector<json> misfits;
    if (trace.empty()) {
        while (!prompts.empty()) {
            plan = study_plan(config, model, world.size(), prompts.back());
            const std::size_t needed = host_bytes(plan, world), free = dev->info().free_bytes;
            const bool too_long = prompts.back() + plan.new_tokens > model.max_positions;
            std::string mine = needed > free || too_long ? "no" : "";
            const auto all = world.comm().gather_strings(mine);
            if (std::all_of(all.begin(), all.end(), [](const auto& s) { return s.empty(); }))
                break;
            for (const Policy& p : plan.policies)
                misfits.push_back({{"kind", "cell"},
                                   {"policy", p.name},
                                   {"cache_size", p.cache_size},
                                   {"prompt_tokens", prompts.back()},
                                   {"batch", plan.batch},
                                   {"new_tokens", plan.new_tokens},
                                   {"fits", false},
                                   {"plan",
                                    {{"needed_bytes", needed},
                                     {"free_bytes", free},
                                     {"context", model.max_positions}}}});
            prompts.pop_back();
        }
    } else {
        int longest = 1, output_tokens = 1;
        for (const TraceRequest& r : trace) {
            longest = std::max(longest, r.input);
            output_tokens = std::max(output_tokens, r.output);
        }
        plan = plan_input(config, model, world.size(), longest, output_tokens);
        plan.shorter = true;
        plan.batch = config.engine.max_batch;
        world.agree([&] {
            fit_context(model, longest, output_tokens);
            check_memory(plan, *dev, world);
        });
    }

    std::optional<ResultWriter> file;
    std::vector<json> rows = misfits;
    std::string done;  // ids, a line each
    world.agree([&] {
        if (!first || output.empty())
            return;
        std::filesystem::create_directories(output);
        const std::string path = output + "/bench.jsonl";
        file.emplace(path, study_digest(config, plan, dev->info().threads, random));
        for (const json& row : rows_of(path)) {
            done += row.value("id", "") + "\n";
            rows.push_back(row);
        }
    });
    std::vector<char> sent(done.begin(), done.end());
    broadcast_vector(world.comm(), sent);
    Sweep sweep;
    std::istringstream ids(std::string(sent.begin(), sent.end()));
    for (std::string id; std::getline(ids, id);)
        sweep.done.insert(id);

    bool all_done = true;
    if (!trace.empty() || !prompts.empty()) {
        const auto engine =
            load_engine(context, *dev, world.comm(), config, plan, options.quiet(), random);
        context.phase = "bench";
        const json about{{"version", CAKE_VERSION},
                         {"machine",
                          {{"host", world.host()},
                           {"device", dev->info().name},
                           {"ranks", world.size()},
                           {"threads", dev->info().threads},
                           {"backend", dev->name()}}},
                         {"model",
                          {{"path", config.model.path},
                           {"architecture", model.architecture},
                           {"layers", model.n_layers},
                           {"parameters", model.parameters()},
                           {"dtype", name(plan.weights.main())},
                           {"random_weights", random.has_value()}}}};
        const auto keep = [&](const std::string& id, json row) {
            row["id"] = id;
            row.update(about);
            if (file)
                file->write(row);
            rows.push_back(std::move(row));
        };
        if (trace.empty()) {
            Progress bar("bench, rows", count_rows(config, model, prompts),
                         first && !options.quiet());
            sweep.all = measure_ceilings(*engine, sweep.alone);
            sweep.prompts = prompts;
            Prompts tokens(std::uint64_t(config.bench.seed), model.vocab);
            tokens.text = text;
            sweep.prompt = tokens;
            std::int64_t n = std::int64_t(sweep.done.size());
            sweep.row = [&](const std::string& id, json row) {
                keep(id, std::move(row));
                bar.update(++n);
            };
            sweep.stopped = [&] { return signals.came(); };
            all_done = run_sweep(*engine, config, sweep);
        } else {
            json row = play_trace(*engine, config, trace);
            if (first)
                keep(fmt::format("requests/{}", rows.size()), std::move(row));
        }
    }
    if (first) {
        const json last = rows.empty() ? json() : rows.back();
        std::string table = trace.empty() ? markdown_table(rows) : last.dump(1) + "\n";
        fmt::print("{}", table);
        flush_output();
        if (!output.empty())
            std::ofstream(output + "/bench.csv") << csv_table(rows);
        if (!all_done)
            spdlog::warn("stopped by a signal: start again to go on");
    }
    return all_done ? ExitCode::Done : ExitCode::Stopped;
}

}  // namespace cake
