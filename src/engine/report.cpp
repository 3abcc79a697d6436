#include "engine/report.h"

#include <algorithm>
#include <cstdlib>
#include <sys/resource.h>

#include "engine/request_report.h"

namespace cake {
namespace {

using nlohmann::json;

// Full-cache tokens are those that the requests would have had to hold at the same time.
std::size_t kv_full_bytes(Engine& engine) {
    const ModelConfig& m = engine.plan().model;
    return bytes_of(engine.plan().cache, 2 * engine.work().full_tokens_peak * m.n_layers *
                                             engine.model().shard.n_kv() * m.d_head);
}

// What only the rank itself knows, carried to rank 0 as JSON.
json rank_json(Engine& engine, const ReportContext& context) {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const RankPlan planned = plan_rank(engine.plan(), engine.model().shard.rank);
    const DeviceInfo device = engine.dev().info();
    return {{"host", context.host},
            {"weights", engine.model().weight_bytes()},
            {"kv_peak", engine.pool().peak_bytes() + planned.uncut_layer},
            {"kv_full", kv_full_bytes(engine)},
            {"shared_copy", planned.shared_copy},
            {"workspace", planned.without_pool() - planned.weights - planned.uncut_layer},
            {"rss", std::size_t(usage.ru_maxrss) * 1024},
            {"device_peak", device.peak_bytes},
            {"device_used", device.used_bytes}};
}

json traffic_json(const Engine& engine) {
    const Communicator::Traffic all = engine.comm().traffic(), shared = engine.sharing_traffic();
    return {{"all_reduce_calls", all.all_reduce_calls},
            {"all_reduce_bytes", all.all_reduce_bytes},
            {"statistics_bytes", all.statistics_bytes},
            {"other_calls", all.other_calls},
            {"other_bytes", all.other_bytes},
            {"shared_head_calls", shared.all_reduce_calls + shared.other_calls},
            {"shared_head_bytes", shared.all_reduce_bytes + shared.other_bytes}};
}

json column(const std::vector<json>& per_rank, const char* key) {
    json out = json::array();
    for (const json& r : per_rank)
        out.push_back(r[key]);
    return out;
}

// Null where nothing was done.
json rate(double amount, double seconds) {
    return amount > 0 && seconds > 0 ? json(amount / seconds) : json();
}

json roofline_json(Engine& engine) {
    const Work& work = engine.work();
    return {{"bytes_per_token", rate(work.decode_bytes, double(work.step_tokens))},
            {"achieved_gb_s", rate(work.decode_bytes / 1e9, engine.decode_clock().times().total_s)},
            {"peak_gb_s", nullptr},
            {"flops", work.prefill_flops},
            {"achieved_tflop_s",
             rate(work.prefill_flops / 1e12, engine.prefill_clock().times().total_s)},
            {"peak_tflop_s", nullptr}};
}

}  // namespace

json to_json(const PhaseTimes& t) {
    double named = 0;
    for (double s : t.seconds)
        named += s;
    return {{"linear_s", t[Phase::Linear]},
            {"attention_s", t[Phase::Attention]},
            {"observe_s", t[Phase::Observe]},
            {"evict_s", t[Phase::Evict]},
            {"all_reduce_s", t[Phase::AllReduce]},
            {"replay_s", t[Phase::Replay]},
            {"sampling_s", t[Phase::Sampling]},
            {"other_s", t.total_s - named},
            {"total_s", t.total_s}};
}

json make_report(Engine& engine, Communicator& all, const ReportContext& context, json requests) {
    const std::vector<json> ranks = gather_json(all, rank_json(engine, context));
    if (all.rank() != 0)
        return {};
    const PlanInput& plan = engine.plan();
    const ModelConfig& m = plan.model;
    json report;
    report["schema"] = "cake.report/1";
    report["version"] = CAKE_VERSION;
    report["command"] = context.command;
    report["config"] = to_json(resolved_config(context.config, plan));
    report["model"] = {{"path", context.config.model.path},
                       {"architecture", m.architecture},
                       {"layers", m.n_layers},
                       {"heads", m.n_heads},
                       {"kv_heads", m.n_kv_heads},
                       {"head_dim", m.d_head},
                       {"vocab", m.vocab},
                       {"dtype", name(plan.weights.main())},
                       {"parameters", m.parameters()}};
    report["machine"] = {{"ranks", all.size()},
                         {"hosts", column(ranks, "host")},
                         {"backend", engine.dev().name()},
                         {"device", engine.dev().info().name},
                         {"threads", context.threads},
                         {"slurm", slurm_json()}};
    report["requests"] = std::move(requests);
    const bool on_gpus = engine.dev().info().own_memory;
    report["memory"] = {{"weights_bytes", column(ranks, "weights")},
                        {"kv_peak_bytes", column(ranks, "kv_peak")},
                        {"kv_full_bytes", column(ranks, "kv_full")},
                        {"shared_copy_bytes", column(ranks, "shared_copy")},
                        {"workspace_bytes", column(ranks, "workspace")},
                        {"peak_rss_bytes", column(ranks, "rss")},
                        {"device_peak_bytes", on_gpus ? column(ranks, "device_peak") : json()},
                        {"device_used_bytes", on_gpus ? column(ranks, "device_used") : json()}};
    report["time"] = {{"load_s", engine.load_seconds()},
                      {"prefill", to_json(engine.prefill_clock().times())},
                      {"decode", to_json(engine.decode_clock().times())}};
    report["traffic"] = traffic_json(engine);
    report["roofline"] = roofline_json(engine);
    return report;
}

json slurm_json() {
    const char* job = std::getenv("SLURM_JOB_ID");
    if (!job)
        return {};
    const char* restarts = std::getenv("SLURM_RESTART_COUNT");  // unset in a job's first start
    const char* task = std::getenv("SLURM_ARRAY_TASK_ID");
    return {{"job_id", job},
            {"restart_count", restarts ? std::atoi(restarts) : 0},
            {"array_task_id", task ? json(task) : json()}};
}

std::string budget_table(const json& report) {
    const json& request = report["requests"][0];
    int most = 1;
    for (const json& l : request["layers"])
        most = std::max(most, l["kept"].get<int>());
    std::string out = fmt::format("{:>5}  {:>10}  {:>10}  {:>10}  {:>7}  {:>7}\n", "layer",
                                  "entropy", "variance", "preference", "budget", "kept");
    auto number = [](const json& x) {
        return x.is_null() ? std::string("-") : fmt::format("{:.4g}", x.get<double>());
    };
    for (const json& l : request["layers"]) {
        const int kept = l["kept"];
        std::string bar;
        for (int i = 0; i < (kept * 40 + most - 1) / most; ++i)
            bar += "█";
        out += fmt::format("{:>5}  {:>10}  {:>10}  {:>10}  {:>7}  {:>7}  {}\n",
                           l["layer"].get<int>(), number(l["entropy"]), number(l["variance"]),
                           number(l["preference"]), l["budget"].get<int>(), kept, bar);
    }
    const int prompt = request["prompt_tokens"];
    double kept_bytes = 0, full = 0, peak = 0;
    for (const json& l : request["layers"]) {
        kept_bytes += l["bytes"].get<double>();
        full += l["bytes"].get<double>() / l["kept"].get<double>() * prompt;
    }
    for (const json& b : report["memory"]["kv_peak_bytes"])
        peak += b.get<double>();
    out += fmt::format("KV kept {} of {} ({:.1f} %), peak with one uncut layer {}\n",
                       human_bytes(kept_bytes), human_bytes(full), 100 * kept_bytes / full,
                       human_bytes(peak));
    const json& t = request["timings"];
    out +=
        fmt::format("prefill {} tokens, {:.1f} tokens/s; decode {} tokens, {} tokens/s\n", prompt,
                    t["prefill_tokens_per_s"].get<double>(), request["output_tokens"].get<int>(),
                    t["decode_tokens_per_s"].is_null()
                        ? "-"
                        : fmt::format("{:.1f}", t["decode_tokens_per_s"].get<double>()));
    return out;
}

}  // namespace cake
