// `cake plan`: bytes per rank by part, before anything is loaded; with --machine, times too. A config.json is enough.
#include "cli/options.h"
#include "cli/plan_tables.h"
#include "cli/session.h"

namespace cake {
namespace {

using nlohmann::json;

// What is asked for, beside the configuration.
struct Asked {
    int ranks = 0, most_ranks = 0;  // 0: not said
    int prompt = 0, batch = 1;
    double memory_gib = 0;
    std::string machine;
};

struct Answer {
    json data;
    std::string text;
    bool fits = true;
};

Answer plan_bytes(const PlanInput& plan, double memory_gib) {
    Answer out;
    std::vector<RankPlan> ranks;
    for (int r = 0; r < plan.ranks; ++r) {
        ranks.push_back(plan_rank(plan, r));
        out.data["ranks"].push_back(to_json(ranks.back()));
        out.fits =
            out.fits && (memory_gib <= 0 || double(ranks.back().total()) <= memory_gib * (1 << 30));
    }
    out.data["traffic"] = to_json(plan_traffic(plan));
    out.data["process_bytes"] = process_bytes;
    out.data["gpu_library_bytes"] = plan.gpu ? gpu_library_bytes(plan) : 0;
    out.data["prefill_flops"] = prefill_flops(plan.model, plan.prompt);
    out.data["fits"] = memory_gib > 0 ? json(out.fits) : json();
    out.text = bytes_table(plan, ranks);
    if (memory_gib > 0)
        out.text += out.fits ? fmt::format("fits into {} GiB a rank\n", memory_gib)
                             : fmt::format("does not fit into {} GiB a rank\n", memory_gib);
    return out;
}

Answer plan_times(const PlanInput& plan, const Asked& asked, const Machine& machine) {
    MachinePlan times = plan_machine(
        plan, machine, asked.ranks > 0 ? std::vector{plan.ranks} : doublings(plan.ranks));
    times.json["fits"] = times.fits;
    return {std::move(times.json), std::move(times.text), times.fits};
}

// auto: what a run that is started here would take.
ComputeTypes types_here(const RunConfig& config, const GpuSurvey& gpus) {
    const bool cuda = config.backend == "cuda" || (config.backend == "auto" && gpus.everywhere);
    return cuda ? gpu_types : ComputeTypes{};
}

ComputeTypes types_of(const Machine& machine, const RunConfig& config) {
    if (config.backend != "auto" && config.backend != machine.backend)
        throw usage_error("--backend is {}, and machine {} computes with {}: leave it at auto",
                          config.backend, machine.name, machine.backend);
    return machine.backend == "cuda" ? gpu_types : ComputeTypes{};
}

Answer answer(const CommandContext& context, const RunConfig& config, const GpuSurvey& gpus,
              const Asked& asked) {
    const bool times = !asked.machine.empty();
    std::optional<Machine> machine;
    if (times)
        machine = read_machine(asked.machine);
    const ComputeTypes types = times ? types_of(*machine, config) : types_here(config, gpus);
    if (!times)  // a machine may exchange what this program does not
        check_types(config, types);
    const ModelConfig model = read_model(config);
    int ranks = asked.ranks;  // of a table over ranks, those of the last row
    if (ranks == 0)
        ranks = !times                 ? context.world.size()
                : asked.most_ranks > 0 ? asked.most_ranks
                                       : max_ranks(model);
    shard_of(model, ranks, 0);  // refuses more ranks than there can be
    check_one_replica(config, ranks);
    const int S = asked.prompt > 0
                      ? asked.prompt
                      : std::max(1, model.max_positions - config.generation.max_new_tokens);
    const int new_tokens = fit_context(model, S, config.generation.max_new_tokens);
    PlanInput plan = plan_input(config, model, ranks, S, new_tokens, types);
    plan.batch = asked.batch;
    plan.overlap = types.weights.has_value() && !config.engine.share_gpu;  // GPUs speak over NCCL
    Answer out = machine ? plan_times(plan, asked, *machine) : plan_bytes(plan, asked.memory_gib);
    out.data["prompt"] = S;
    out.data["new_tokens"] = new_tokens;
    out.data["backend"] = types.gpu ? "cuda" : "cpu";
    return out;
}

}  // namespace

ExitCode run_plan(CommandContext& context) {
    CLI::App app(
        "Bytes per rank by part, before anything is loaded: needs neither weights nor a GPU.",
        "cake plan");
    ModelOptions options(app);
    Asked asked;
    bool as_json = false;
    app.add_option("--ranks", asked.ranks, "number of ranks, if not those it is started on")
        ->check(CLI::PositiveNumber);
    app.add_option("--prompt-length", asked.prompt,
                   "tokens; default: the model's context less the new tokens")
        ->check(CLI::PositiveNumber);
    app.add_option("--batch", asked.batch, "sequences held at the same time")
        ->check(CLI::PositiveNumber);
    CLI::Option* memory = app.add_option("--memory", asked.memory_gib,
                                         "GiB that a rank may take: says whether it fits")
                              ->check(CLI::PositiveNumber);
    CLI::Option* machine =
        app.add_option("--machine", asked.machine,
                       "predict times: a name (a100, cpu, h100, h200) or a YAML file; a table over "
                       "ranks, without --ranks")
            ->excludes(memory);
    app.add_option("--max-ranks", asked.most_ranks,
                   "last row of that table; default: the model's query heads")
        ->check(CLI::PositiveNumber)
        ->needs(machine);
    app.add_flag("--json", as_json, "print JSON");
    if (const auto over = parse_arguments(context, app))
        return *over;
    const RunConfig config = options.resolve(context);

    const GpuSurvey gpus = asked.machine.empty() ? find_gpus(config, context.world) : GpuSurvey{};
    Answer out;
    context.world.agree([&] {
        check_writable(options.report());
        out = answer(context, config, gpus, asked);
    });
    if (context.world.rank() == 0 && !options.report().empty())
        write_json(options.report(), out.data);
    print_once(context, as_json ? out.data.dump(1) + "\n" : out.text);
    return out.fits ? ExitCode::Done : ExitCode::Failed;
}

}  // namespace cake
