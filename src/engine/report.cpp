#include "engine/report.h"

#include <algorithm>
#include <sys/resource.h>

#include "base/hash.h"

namespace cake {
namespace {

using nlohmann::json;

// Hash of the kept positions of a KV head, ascending, as little-endian int32.
std::string digest(const std::vector<std::int32_t>& positions) {
    return hex64(fnv1a(std::as_bytes(std::span(positions))));
}

double percentile(std::vector<double> values, double p) {
    std::sort(values.begin(), values.end());
    return values[std::min(values.size() - 1, std::size_t(p * double(values.size())))];
}

json phase_json(const PhaseTimes& t) {
    double named = 0;
    for (double s : t.seconds)
        named += s;
    return {{"linear_s", t[Phase::Linear]},        {"attention_s", t[Phase::Attention]},
            {"observe_s", t[Phase::Observe]},      {"evict_s", t[Phase::Evict]},
            {"all_reduce_s", t[Phase::AllReduce]}, {"sampling_s", t[Phase::Sampling]},
            {"other_s", t.total_s - named},        {"total_s", t.total_s}};
}

json timings_json(const Request& request, const Generation& g) {
    const Timings& t = g.timings;
    const auto n = t.inter_token_ms.size();
    json inter = {{"p50", nullptr}, {"p99", nullptr}};
    if (n > 0)
        inter = {{"p50", percentile(t.inter_token_ms, 0.5)},
                 {"p99", percentile(t.inter_token_ms, 0.99)}};
    double between = 0;
    for (double ms : t.inter_token_ms)
        between += ms / 1e3;
    return {{"prefill_s", t.prefill_s},
            {"decode_s", t.decode_s},
            {"ttft_s", t.ttft_s > 0 ? json(t.ttft_s) : json()},
            {"prefill_tokens_per_s", double(request.prompt.size()) / t.prefill_s},
            {"decode_tokens_per_s", n > 0 && between > 0 ? json(double(n) / between) : json()},
            {"inter_token_ms", inter}};
}

json layers_json(const Engine& engine, const Generation& g, const std::vector<json>& per_rank) {
    const ModelConfig& m = engine.plan().model;
    json layers = json::array();
    for (std::size_t l = 0; l < g.layers.size(); ++l) {
        const LayerResult& r = g.layers[l];
        json digests = json::array();
        for (const json& rank : per_rank)
            for (const json& d : rank["digests"][l])
                digests.push_back(d);
        auto seen = [&](double LayerPreference::*value) {
            return r.seen ? json((*r.seen).*value) : json();
        };
        layers.push_back(
            {{"layer", l},
             {"entropy", seen(&LayerPreference::entropy)},
             {"variance", seen(&LayerPreference::variance)},
             {"preference", seen(&LayerPreference::preference)},
             {"budget", r.budget},
             {"kept", r.kept},
             {"bytes", bytes_of(engine.plan().cache, 2LL * r.kept * m.n_kv_heads * m.d_head)},
             {"digest", digests}});
    }
    return layers;
}

RunConfig resolved(const Engine& engine, RunConfig config) {
    const PlanInput& plan = engine.plan();
    config.policy = cake::resolved(config.policy, plan.policies.front());
    config.model.dtype = name(plan.weights);
    config.engine.cache_dtype = name(plan.cache);
    config.engine.page_tokens = std::to_string(page_tokens(plan));
    return config;
}

// What only the rank itself knows, carried to rank 0 as JSON.
json rank_json(Engine& engine, const ReportContext& context, const Generation& g) {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const PlanInput& plan = engine.plan();
    const Shard& shard = engine.model().shard;
    const RankPlan planned = plan_rank(plan, shard.rank);
    json digests = json::array();
    for (const LayerResult& layer : g.layers) {
        json heads = json::array();
        for (const auto& head : layer.positions)
            heads.push_back(digest(head));
        digests.push_back(heads);
    }
    const Communicator::Traffic traffic = engine.comm().traffic();
    return {{"host", context.host},
            {"digests", digests},
            {"weights", engine.model().weight_bytes()},
            {"kv_peak", engine.pool().peak_bytes() + planned.uncut_layer},
            {"workspace", planned.workspace + planned.residual + planned.logits},
            {"rss", std::size_t(usage.ru_maxrss) * 1024},
            {"prefill", phase_json(engine.prefill_times())},
            {"traffic",
             {{"all_reduce_calls", traffic.all_reduce_calls},
              {"all_reduce_bytes", traffic.all_reduce_bytes},
              {"statistics_bytes", traffic.statistics_bytes},
              {"other_calls", traffic.other_calls},
              {"other_bytes", traffic.other_bytes}}}};
}

std::vector<json> gather(Engine& engine, const json& mine) {
    std::vector<json> out;
    for (const std::string& text : engine.comm().gather_strings(mine.dump()))
        out.push_back(json::parse(text));
    return out;
}

json column(const std::vector<json>& per_rank, const char* key) {
    json out = json::array();
    for (const json& r : per_rank)
        out.push_back(r[key]);
    return out;
}

// Decoding reads every weight but the embedding table's other rows once, and what the cache holds.
json roofline_json(const Engine& engine, const Request& request, const Generation& g) {
    const ModelConfig& m = engine.plan().model;
    const Model& model = engine.model();
    std::int64_t kept = 0;
    for (const LayerResult& r : g.layers)
        kept += r.kept;
    const std::size_t weights = model.weight_bytes() - (model.head ? model.embedding.bytes() : 0);
    const double bytes =
        double(weights) +
        double(bytes_of(engine.plan().cache, 2 * kept * model.shard.n_kv() * m.d_head));
    double between = 0;
    for (double ms : g.timings.inter_token_ms)
        between += ms / 1e3;
    const double flops = prefill_flops(m, int(request.prompt.size()));
    return {{"bytes_per_token", bytes},
            {"achieved_gb_s",
             between > 0 ? json(bytes * double(g.timings.inter_token_ms.size()) / between / 1e9)
                         : json()},
            {"peak_gb_s", nullptr},
            {"flops", flops},
            {"achieved_tflop_s", flops / g.timings.prefill_s / 1e12},
            {"peak_tflop_s", nullptr}};
}

}  // namespace

json make_report(Engine& engine, const ReportContext& context, const Request& request,
                 const Generation& g, const std::string& text) {
    const std::vector<json> ranks = gather(engine, rank_json(engine, context, g));
    const PlanInput& plan = engine.plan();
    if (engine.comm().rank() != 0)
        return {};

    const ModelConfig& m = plan.model;
    json kv_full = json::array();
    for (int r = 0; r < plan.ranks; ++r)
        kv_full.push_back(plan_rank(plan, r).kv_full);
    json hosts = column(ranks, "host");
    const DeviceInfo device = engine.dev().info();

    json report;
    report["schema"] = "cake.report/1";
    report["version"] = CAKE_VERSION;
    report["command"] = context.command;
    report["config"] = to_json(resolved(engine, context.config));
    report["model"] = {{"path", context.config.model.path},
                       {"architecture", m.architecture},
                       {"layers", m.n_layers},
                       {"heads", m.n_heads},
                       {"kv_heads", m.n_kv_heads},
                       {"head_dim", m.d_head},
                       {"vocab", m.vocab},
                       {"dtype", name(plan.weights)},
                       {"parameters", m.parameters()}};
    report["machine"] = {{"ranks", plan.ranks},
                         {"hosts", hosts},
                         {"backend", engine.dev().name()},
                         {"device", device.name},
                         {"threads", context.threads}};
    report["requests"] = {{{"id", request.id},
                           {"prompt_tokens", request.prompt.size()},
                           {"output_tokens", g.tokens.size()},
                           {"tokens", g.tokens},
                           {"text", text},
                           {"finish_reason", g.finish_reason},
                           {"evicted", g.evicted},
                           {"layers", layers_json(engine, g, ranks)},
                           {"timings", timings_json(request, g)}}};
    report["memory"] = {{"weights_bytes", column(ranks, "weights")},
                        {"kv_peak_bytes", column(ranks, "kv_peak")},
                        {"kv_full_bytes", kv_full},
                        {"workspace_bytes", column(ranks, "workspace")},
                        {"peak_rss_bytes", column(ranks, "rss")},
                        {"device_peak_bytes", nullptr}};
    report["memory"]["shared_copy_bytes"] = nlohmann::json::array();
    for (int r = 0; r < plan.ranks; ++r)
        report["memory"]["shared_copy_bytes"].push_back(plan_rank(plan, r).shared_copy);
    report["time"] = {{"load_s", engine.load_seconds()},
                      {"prefill", phase_json(engine.prefill_times())},
                      {"decode", phase_json(engine.decode_times())}};
    report["traffic"] = ranks[0]["traffic"];
    const Communicator::Traffic shared = engine.sharing_traffic();
    report["traffic"]["shared_head_calls"] = shared.all_reduce_calls + shared.other_calls;
    report["traffic"]["shared_head_bytes"] = shared.all_reduce_bytes + shared.other_bytes;
    report["roofline"] = roofline_json(engine, request, g);
    return report;
}

json make_kept_dump(Engine& engine, const Request& request, const Generation& g) {
    json mine = json::array();
    for (const LayerResult& layer : g.layers)
        mine.push_back(layer.positions);
    const std::vector<json> ranks = gather(engine, mine);
    if (engine.comm().rank() != 0)
        return {};
    json layers = json::array();
    for (std::size_t l = 0; l < g.layers.size(); ++l) {
        json heads = json::array();
        for (const json& rank : ranks)
            for (const json& head : rank[l])
                heads.push_back(head);
        layers.push_back(heads);
    }
    return {{"requests", {{{"id", request.id}, {"layers", layers}}}}};
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
