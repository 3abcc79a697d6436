// `cake plan`: bytes per rank by part, before anything is loaded. A config.json is enough.
#include "cli/options.h"
#include "cli/session.h"

namespace cake {
namespace {

using nlohmann::json;

std::string table(const PlanInput& plan, const std::vector<RankPlan>& ranks) {
    const Policy& policy = plan.policies.front();
    std::string out = fmt::format(
        "{} layers, {} query and {} KV heads of {}; {} weights, {} cache in pages of {} tokens\n"
        "prompt {} tokens, {} new; policy {}, cache size {}, window {}, {}\n\n",
        plan.model.n_layers, plan.model.n_heads, plan.model.n_kv_heads, plan.model.d_head,
        name(plan.weights.main()), name(plan.cache), page_tokens(plan), plan.prompt,
        plan.new_tokens, policy.name, policy.cache_size, policy.window,
        policy.cascade ? "cascade" : "no cascade");
    out += fmt::format("{:>4} {:>9} {:>9} {:>7} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>11}\n",
                       "rank", "q heads", "kv heads", "mlp", "weights", "residual", "uncut", "kept",
                       "workspace", "logits", "total");
    auto h = [](std::size_t bytes) { return human_bytes(double(bytes)); };
    for (const RankPlan& p : ranks)
        out += fmt::format(
            "{:>4} {:>9} {:>9} {:>7} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>11}\n",
            p.shard.rank, p.shard.n_q(), p.shard.n_kv(), p.shard.ff.size(), h(p.weights),
            h(p.residual), h(p.uncut_layer), h(p.kept_cache), h(p.workspace), h(p.logits),
            h(p.total()));
    const RankPlan& first = ranks.front();
    const double peak = double(first.kv_peak);
    out += fmt::format("\nKV peak of rank 0: {}, {:.1f} % of the full cache ({})\n",
                       human_bytes(peak), 100 * peak / double(first.kv_full), h(first.kv_full));
    const TrafficPlan t = plan_traffic(plan);
    out += fmt::format(
        "a prefill sums {} times over the ranks ({}), and {} of statistics; a token {} times "
        "({})\n",
        t.prefill_all_reduces, human_bytes(double(t.prefill_all_reduce_bytes)),
        human_bytes(double(t.statistics_bytes)), t.all_reduces_per_token,
        human_bytes(double(t.all_reduce_bytes_per_token)));
    if (t.score_all_reduces + t.score_all_reduces_per_token > 0)
        out += fmt::format("scores over all heads: {} sums in prefill ({}), {} a token ({})\n",
                           t.score_all_reduces, human_bytes(double(t.score_all_reduce_bytes)),
                           t.score_all_reduces_per_token,
                           human_bytes(double(t.score_all_reduce_bytes_per_token)));
    if (t.shared_head_bytes + t.shared_head_bytes_per_token > 0)
        out += fmt::format("ranks that share a KV head exchange {} in prefill, {} a token\n",
                           human_bytes(double(t.shared_head_bytes)),
                           human_bytes(double(t.shared_head_bytes_per_token)));
    return out;
}

}  // namespace

ExitCode run_plan(CommandContext& context) {
    CLI::App app(
        "Bytes per rank by part, before anything is loaded: needs neither weights nor a GPU.",
        "cake plan");
    ModelOptions options(app);
    int ranks = context.world.size(), prompt = 0, batch = 1;
    double memory_gib = 0;
    bool as_json = false;
    app.add_option("--ranks", ranks, "number of ranks, if not those it is started on")
        ->check(CLI::PositiveNumber);
    app.add_option("--prompt-length", prompt,
                   "tokens; default: the model's context less the new tokens")
        ->check(CLI::PositiveNumber);
    app.add_option("--batch", batch, "sequences held at the same time")->check(CLI::PositiveNumber);
    app.add_option("--memory", memory_gib, "GiB that a rank may take: says whether it fits")
        ->check(CLI::PositiveNumber);
    app.add_flag("--json", as_json, "print JSON");
    if (const auto over = parse_arguments(context, app))
        return *over;
    const RunConfig config = options.resolve(context);

    json out;
    std::string text;
    bool fits = true;
    context.world.agree([&] {
        check_writable(options.report());
        check_supported(config);
        check_one_replica(config, ranks);
        const ModelConfig model = read_model(config);
        const int S = prompt > 0
                          ? prompt
                          : std::max(1, model.max_positions - config.generation.max_new_tokens);
        const int new_tokens = fit_context(model, S, config.generation.max_new_tokens);
        PlanInput plan = plan_input(config, model, ranks, S, new_tokens);
        plan.batch = batch;
        std::vector<RankPlan> rank_plans;
        for (int r = 0; r < ranks; ++r) {
            rank_plans.push_back(plan_rank(plan, r));
            out["ranks"].push_back(to_json(rank_plans.back()));
            fits = fits &&
                   (memory_gib <= 0 || double(rank_plans.back().total()) <= memory_gib * (1 << 30));
        }
        out["prompt"] = S;
        out["new_tokens"] = new_tokens;
        out["traffic"] = to_json(plan_traffic(plan));
        out["prefill_flops"] = prefill_flops(model, S);
        out["fits"] = memory_gib > 0 ? json(fits) : json();
        text = table(plan, rank_plans);
        if (memory_gib > 0)
            text += fits ? fmt::format("fits into {} GiB a rank\n", memory_gib)
                         : fmt::format("does not fit into {} GiB a rank\n", memory_gib);
    });
    if (context.world.rank() == 0 && !options.report().empty())
        write_json(options.report(), out);
    print_once(context, as_json ? out.dump(1) + "\n" : text);
    return fits ? ExitCode::Done : ExitCode::Failed;
}

}  // namespace cake
