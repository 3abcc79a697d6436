#include "cli/plan_tables.h"

#include <nlohmann/json.hpp>

namespace cake {
namespace {

// "129 x 8.0 KiB": the sums of a step, all of one size; a gather of logits comes on top.
std::string sums(const TrafficPlan& t) {
    if (t.all_reduces_per_token == 0)
        return "-";
    return fmt::format(
        "{} x {}", t.all_reduces_per_token,
        human_bytes(double(t.all_reduce_bytes_per_token) / double(t.all_reduces_per_token)));
}

std::string row(const Prediction& p) {
    auto percent = [](double part, double all) { return 100 * part / all; };
    return fmt::format(
        "{:>5} {:>5} {:>4} {:>10} | {:>9.4g} {:>9.4g} {:>6.1f} | {:>9.4g} {:>9.4g} {:>6.1f} "
        "{:>9.4g} {:>15}\n",
        p.ranks, p.nodes, p.fits ? "yes" : "no", human_bytes(double(p.rank_bytes)),
        p.prefill.total(), p.prompt_tokens_per_s, percent(p.prefill.exposed(), p.prefill.total()),
        p.tokens_per_s, p.step.total() * 1e3, percent(p.step.all_reduce, p.step.total()),
        p.step.all_reduce * 1e6, sums(p.traffic));
}

}  // namespace

std::string bytes_table(const PlanInput& plan, const std::vector<RankPlan>& ranks) {
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
    if (plan.gpu)
        out += fmt::format(
            "in the total, on a GPU: {} that kernels work in, {} of tables; beside it, its "
            "libraries take about {}\n",
            h(first.kernel_work), h(first.tables), h(gpu_library_bytes(plan)));
    else
        out += fmt::format("beside the total, a process itself takes up to {} on its host\n",
                           h(process_bytes));
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

std::vector<int> doublings(int most) {
    std::vector<int> out;
    for (int r = 1; r < most; r *= 2)
        out.push_back(r);
    out.push_back(most);
    return out;
}

MachinePlan plan_machine(PlanInput plan, const Machine& machine, const std::vector<int>& ranks) {
    const Policy& policy = plan.policies.front();
    plan.ranks = ranks.front();
    MachinePlan out;
    out.json = {{"machine", to_json(machine)}, {"predictions", nlohmann::json::array()}};
    out.text = fmt::format(
        "predicted, not measured: {}\n{} weights, {} cache, sums in {}; prompt {} tokens, {} new, "
        "batch {}; policy {}{}\n\n",
        machine.name, name(plan.weights.main()), name(plan.cache), name(plan.residual), plan.prompt,
        plan.new_tokens, plan.batch, policy.name,
        policy.keeps_everything() ? "" : fmt::format(", cache size {}", policy.cache_size));
    out.text += fmt::format("{:28} | {:^26} | {:^52}\n", "", "prefill of one prompt",
                            "decoding, all of the batch");
    out.text += fmt::format(
        "{:>5} {:>5} {:>4} {:>10} | {:>9} {:>9} {:>6} | {:>9} {:>9} {:>6} {:>9} {:>15}\n", "ranks",
        "nodes", "fits", "a rank", "s", "tokens/s", "sums %", "tokens/s", "step ms", "sums %",
        "sums us", "sums a step");
    for (const int r : ranks) {
        plan.ranks = r;
        const Prediction p = predict(plan, machine);
        out.text += row(p);
        out.json["predictions"].push_back(to_json(p));
        out.fits = out.fits || p.fits;
    }
    return out;
}

}  // namespace cake
