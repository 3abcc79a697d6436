// `cake eval fidelity`: how far a policy's predictions are from those of the full cache, on given texts.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>

#include <spdlog/spdlog.h>

#include "base/hash.h"
#include "base/progress.h"
#include "base/stop_signals.h"
#include "cli/alike.h"
#include "cli/bench_inputs.h"
#include "cli/options.h"
#include "cli/prompt.h"
#include "engine/report.h"
#include "eval/fidelity_files.h"
#include "eval/fidelity_run.h"
#include "io/jobs.h"
#include "io/json_file.h"
#include "policy/policy_list.h"
#include "text/utf8.h"

namespace cake {
namespace {

using nlohmann::json;

constexpr Flag kFlags[] = {
    {"--policies", "eval.policies", "NAME,..."}, {"--cache-sizes", "eval.cache_sizes", "C,..."},
    {"--texts", "eval.texts", "FILE,..."},       {"--lengths", "eval.lengths", "N,..."},
    {"--positions", "eval.positions", "N"},
};

// Of a prompt where the configuration says nothing: what most policies were published for, and no more than minutes on a CPU.
constexpr int kMostTokens = 4000;

struct EvalText {
    std::string name;             // of the file
    std::vector<TokenId> tokens;  // as many as the longest prompt needs
};

// A prompt of a text, and what follows it.
struct Unit {
    const EvalText* text;
    int prompt;
    std::string id() const { return fmt::format("{}/{}", text->name, prompt); }
    // Of what is read of the text: a result of another one cannot stand for it.
    std::string digest(int positions) const {
        const auto read = std::span(text->tokens).first(std::size_t(prompt + positions + 1));
        return hex64(fnv1a(std::as_bytes(read)));
    }
};

// Those of the configuration, or as long as the context allows, kMostTokens at most. Usage errors where the model's context
// has no room.
std::vector<int> prompt_lengths(const RunConfig& config, const ModelConfig& model) {
    const int positions = config.eval.positions;
    std::vector<int> out = config.eval.lengths;
    if (out.empty())
        out.push_back(std::max(std::min(kMostTokens, model.max_positions - positions), 1));
    for (const int length : out)
        if (fit_context(model, length, positions + 1) <= positions)
            throw usage_error(
                "a prompt of {} tokens and {} positions exceed the model's context of {}: give "
                "shorter --lengths or fewer --positions",
                length, positions, model.max_positions);
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
}

// The first `needed` tokens of a text, encoded as it is.
std::vector<TokenId> read_tokens(const Tokenizer& tokenizer, const std::string& path, int longest,
                                 int positions) {
    const std::string text = read_text_file(path);
    if (!is_utf8(text) || text.find('\0') != std::string::npos)
        throw usage_error("{}: is no text in UTF-8", path);
    std::vector<TokenId> out = tokenizer.encode(text, true);
    const std::int64_t needed = std::int64_t(longest) + positions + 1;
    if (std::int64_t(out.size()) < needed)
        throw usage_error(
            "{}: the text has {} tokens, and a prompt of {}, {} positions and the token after them "
            "are {}: give shorter --lengths, fewer --positions or a longer text",
            path, out.size(), longest, positions, needed);
    out.resize(std::size_t(needed));
    return out;
}

// The same on all ranks: rank 0 reads. Collective.
std::vector<EvalText> read_texts(World& world, const RunConfig& config, const ModelConfig& model,
                                 int longest) {
    std::vector<EvalText> out;
    world.agree([&] {
        if (config.eval.texts.empty())
            throw usage_error("a text is missing: give --texts FILE,...");
        for (const std::string& path : config.eval.texts) {
            const std::string name = std::filesystem::path(path).filename().string();
            if (std::ranges::count(out, name, &EvalText::name) > 0)
                throw usage_error("{}: another text is called {} too: rename one of them", path,
                                  name);
            out.push_back({name, {}});
        }
        if (world.rank() != 0)
            return;
        const Tokenizer tokenizer = load_tokenizer(config.model.path);
        check_vocabulary(tokenizer, model.vocab, config.model.path);
        for (std::size_t i = 0; i < out.size(); ++i)
            out[i].tokens =
                read_tokens(tokenizer, config.eval.texts[i], longest, config.eval.positions);
    });
    for (EvalText& text : out)
        broadcast_vector(world.comm(), text.tokens);
    return out;
}

// Every policy with all of its cells.
json policies_json(const RunConfig& config, const ModelConfig& model) {
    json out = json::array();
    for (const ListedPolicy& p :
         list_policies(config.policy, config.eval.policies, config.eval.cache_sizes, model)) {
        RunConfig one = config;
        one.policy = resolved(p.cells, p.policy);
        out.push_back({{"policy", p.policy.name},
                       {"cache_size", p.policy.cache_size},
                       {"cells", to_json(one)["policy"]}});
    }
    return out;
}

// Results of two digests cannot stand in one table. Texts and lengths may change: a study can be widened.
std::string study_digest(const RunConfig& config, const PlanInput& plan) {
    RunConfig of = config;
    of.model.path = std::filesystem::weakly_canonical(config.model.path).string();
    const json all = to_json(resolved_config(of, plan));
    const json decisive{
        all["model"],          all["engine"]["cache_dtype"],      all["engine"]["residual_dtype"],
        name(plan.activation), policies_json(config, plan.model), config.eval.positions};
    return hex64(fnv1a(decisive.dump()));
}

// What has been measured, on rank 0; other ranks know what of it is done.
class Results {
public:
    // Collective: takes over what is in `folder` (empty: nothing is written). Usage error where a unit's is of another text.
    Results(World& world, const std::string& folder, const RunConfig& config, const PlanInput& plan,
            std::span<const Unit> units)
        : folder_(folder), positions_(config.eval.positions) {
        std::vector<char> done;  // 1 for each unit that is
        world.agree([&] {
            if (world.rank() != 0)
                return;
            done.resize(units.size());
            if (folder.empty())
                return;
            std::error_code failed;
            std::filesystem::create_directories(folder, failed);
            if (failed)
                throw usage_error("{}: the folder cannot be made: {}", folder, failed.message());
            file_.emplace(path(), study_digest(config, plan));
            take_over(units, done);
        });
        broadcast_vector(world.comm(), done);
        for (std::size_t i = 0; i < units.size(); ++i)
            if (!done[i])
                pending.push_back(units[i]);
    }

    void keep(TextFidelity result, const Unit& of) {
        result.text = of.text->name;
        if (file_) {
            json row = to_json(result);
            row["id"] = of.id();
            row["tokens"] = of.digest(positions_);
            file_->write(row);
        }
        all.push_back(std::move(result));
    }

    void write_tables() const {
        if (folder_.empty())
            return;
        write("fidelity.csv", fidelity_csv(all));
        write("positions.csv", positions_csv(all));
        write("layers.csv", layers_csv(all));
    }

    std::vector<Unit> pending;
    std::vector<TextFidelity> all;

private:
    std::string path() const { return folder_ + "/fidelity.jsonl"; }

    void take_over(std::span<const Unit> units, std::vector<char>& done) {
        std::ifstream in(path());
        for (std::string line; std::getline(in, line);) {
            const json row = parse_json(line, path());
            all.push_back(fidelity_of(row, path()));
            for (std::size_t i = 0; i < units.size(); ++i) {
                if (row.value("id", "") != units[i].id())
                    continue;
                if (row.value("tokens", "") != units[i].digest(positions_))
                    throw usage_error(
                        "{}: {} was made of another text of this name: give another --output",
                        path(), units[i].id());
                done[i] = 1;
            }
        }
    }
    void write(const char* name, const std::string& table) const {
        std::ofstream out(folder_ + "/" + name);
        out << table;
        if (!out.flush())
            throw Error(
                fmt::format("{}/{}: could not be written; is the disk full?", folder_, name));
    }

    std::string folder_;
    int positions_;
    std::optional<ResultWriter> file_;
};

// Measures what is not done; false: stopped. Collective.
bool measure_all(Engine& engine, const RunConfig& config, Results& results, bool quiet) {
    const int steps = engine.plan().model.n_layers + config.eval.positions;
    const bool first = engine.comm().rank() == 0;
    const auto policies = fidelity_policies(config, engine.plan().model);
    Progress bar("eval fidelity, layers and positions",
                 std::int64_t(steps) * std::int64_t(results.pending.size()), first && !quiet);
    std::int64_t before = 0;
    const FidelityOptions options{.positions = config.eval.positions,
                                  .check = config.check,
                                  .stopped = [] { return StopSignals::came(); },
                                  .progress = [&](int done) { bar.update(before + done); }};
    for (const Unit& unit : results.pending) {
        auto measured = measure_fidelity(engine, unit.text->tokens, unit.prompt, policies, options);
        if (!measured)
            return false;
        if (first)
            results.keep(std::move(*measured), unit);
        before += steps;
    }
    return true;
}

}  // namespace

ExitCode run_eval_fidelity(CommandContext& context) {
    const StopSignals signals;
    CLI::App app(
        "How far the predictions of policies are from those of the full cache: each text's first "
        "tokens are the prompt, the next ones go in whatever was predicted.",
        "cake eval fidelity");
    ModelOptions options(app, kFlags);
    std::string output;
    app.add_option("--output", output,
                   "a folder for fidelity.jsonl, fidelity.csv, positions.csv and layers.csv; goes "
                   "on there")
        ->type_name("DIR");
    if (const auto over = parse_arguments(context, app))
        return *over;
    const RunConfig config = options.resolve(context);
    World& world = context.world;
    const bool first = world.rank() == 0;

    world.status().at(first ? RunPart::Input : RunPart::Start);
    check_same_model(world, config.model.path);
    const GpuSurvey gpus = find_gpus(config, world);
    std::unique_ptr<Backend> dev;
    ModelConfig model;
    std::vector<int> lengths;
    world.agree([&] {
        check_one_replica(config, world.size());
        if (config.eval.part != "0/1")
            throw usage_error(
                "eval.part is {}: fidelity has no parts, since one prefill serves all policies; "
                "give each job texts and an --output of its own",
                config.eval.part);
        model = read_model(config);
        dev = make_backend(config, gpus, world);
        check_types(config, dev->types());
        shard_of(model, world.size(), world.rank());
        fidelity_policies(config, model);
        lengths = prompt_lengths(config, model);
        if (first)
            check_writable(options.report());
    });
    const auto texts = read_texts(world, config, model, lengths.back());
    std::vector<Unit> units;
    for (const EvalText& text : texts)
        for (const int length : lengths)
            units.push_back({&text, length});
    PlanInput plan = fidelity_plan(config, model, world.size(), lengths.back(), dev->types());
    plan.overlap = speaks_nccl(config, *dev, plan.ranks);
    world.agree([&] { check_memory(plan, *dev, world); });
    Results results(world, output, config, plan, units);

    bool all_done = true;
    if (!results.pending.empty() || !options.report().empty()) {
        const auto group = make_group(config, world, *dev, 0);
        const auto engine = load_engine(context, *dev, *group, config, plan, options.quiet());
        all_done = measure_all(*engine, config, results, options.quiet());
        world.status().at(RunPart::Write);
        const ReportContext facts{config, "eval fidelity", world.host(), dev->info().threads};
        json report = make_report(*engine, world.comm(), facts, json::array());
        if (first && !options.report().empty()) {
            report["config"]["policy"] = to_json(config)["policy"];
            report["policies"] = policies_json(config, model);
            report["fidelity"] = json::array();
            for (const FidelityMeans& m : means_over_texts(results.all))
                report["fidelity"].push_back(to_json(m));
            write_json(options.report(), report);
        }
    }
    if (first) {
        results.write_tables();
        fmt::print("{}", fidelity_table(means_over_texts(results.all)));
        flush_output();
        if (!all_done)
            spdlog::warn("stopped by a signal: start again to go on");
    }
    return all_done ? ExitCode::Done : ExitCode::Stopped;
}

}  // namespace cake
