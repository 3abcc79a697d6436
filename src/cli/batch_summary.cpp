#include "cli/batch_summary.h"

#include <numeric>

#include "base/progress.h"
#include "engine/plan.h"
#include "engine/request_report.h"

namespace cake {
namespace {

using nlohmann::json;

json percentiles(const std::vector<double>& values) {
    if (values.empty())
        return {{"p50", nullptr}, {"p90", nullptr}, {"p99", nullptr}};
    return {{"p50", percentile(values, 0.5)},
            {"p90", percentile(values, 0.9)},
            {"p99", percentile(values, 0.99)}};
}

double total(const json& numbers) {
    return std::accumulate(numbers.begin(), numbers.end(), 0.0,
                           [](double sum, const json& x) { return sum + x.get<double>(); });
}

std::string shown(const json& number, const char* unit) {
    return number.is_null() ? "-" : fmt::format("{:.4g} {}", number.get<double>(), unit);
}

}  // namespace

void BatchSummary::add(const json& result, std::span<const double> inter_token_ms) {
    ++jobs_;
    if (result["finish_reason"] == "error") {
        ++failed_;
        return;
    }
    prompt_tokens_ += result["prompt_tokens"].get<std::int64_t>();
    output_tokens_ += result["output_tokens"].get<std::int64_t>();
    ttft_s_.push_back(result["timings"]["ttft_s"]);
    inter_token_ms_.insert(inter_token_ms_.end(), inter_token_ms.begin(), inter_token_ms.end());
}

json BatchSummary::to_json(const json& report, std::int64_t done_before, double wall_s) const {
    json summary{{"jobs", jobs_},
                 {"failed", failed_},
                 {"done_before", done_before},
                 {"prompt_tokens", prompt_tokens_},
                 {"output_tokens", output_tokens_},
                 {"wall_s", wall_s},
                 {"prompt_tokens_per_s", wall_s > 0 ? double(prompt_tokens_) / wall_s : 0},
                 {"output_tokens_per_s", wall_s > 0 ? double(output_tokens_) / wall_s : 0},
                 {"ttft_s", percentiles(ttft_s_)},
                 {"inter_token_ms", percentiles(inter_token_ms_)},
                 {"kv_peak_bytes", nullptr},
                 {"kv_full_bytes", nullptr},
                 {"time_share", nullptr}};
    if (report["time"].is_null())  // nothing was computed
        return summary;
    const json &prefill = report["time"]["prefill"], &decode = report["time"]["decode"];
    const auto share = [&](double seconds) { return wall_s > 0 ? seconds / wall_s : 0; };
    const auto both = [&](const char* phase) {
        return prefill[phase].get<double>() + decode[phase].get<double>();
    };
    summary["kv_peak_bytes"] = total(report["memory"]["kv_peak_bytes"]);
    summary["kv_full_bytes"] = total(report["memory"]["kv_full_bytes"]);
    summary["time_share"] = {{"prefill", share(prefill["total_s"])},
                             {"decode", share(decode["total_s"])},
                             {"evict", share(both("observe_s") + both("evict_s"))},
                             {"all_reduce", share(both("all_reduce_s"))}};
    return summary;
}

std::string summary_text(const json& s) {
    std::string out =
        fmt::format("{} jobs in {}, {} of them failed, {} done before\n",
                    s["jobs"].get<std::int64_t>(), duration(s["wall_s"]),
                    s["failed"].get<std::int64_t>(), s["done_before"].get<std::int64_t>());
    out +=
        fmt::format("prompts {} tokens, {:.1f} a second; answers {} tokens, {:.1f} a second\n",
                    s["prompt_tokens"].get<std::int64_t>(), s["prompt_tokens_per_s"].get<double>(),
                    s["output_tokens"].get<std::int64_t>(), s["output_tokens_per_s"].get<double>());
    const auto line = [&](const char* what, const json& p, const char* unit) {
        out += fmt::format("{}: p50 {}, p90 {}, p99 {}\n", what, shown(p["p50"], unit),
                           shown(p["p90"], unit), shown(p["p99"], unit));
    };
    if (s["time_share"].is_null())
        return out;
    line("time to first token", s["ttft_s"], "s");
    line("time between tokens", s["inter_token_ms"], "ms");
    const double peak = s["kv_peak_bytes"], full = s["kv_full_bytes"];
    out += fmt::format("KV peak {}, of the full cache's {} {:.1f} %\n", human_bytes(peak),
                       human_bytes(full), full > 0 ? 100 * peak / full : 0);
    const json& t = s["time_share"];
    const auto percent = [&](const char* key) { return 100 * t[key].get<double>(); };
    out += fmt::format(
        "of rank 0's time: prefill {:.1f} %, decode {:.1f} %; of both, observing and eviction "
        "{:.1f} %, "
        "sums over ranks {:.1f} %\n",
        percent("prefill"), percent("decode"), percent("evict"), percent("all_reduce"));
    return out;
}

}  // namespace cake
