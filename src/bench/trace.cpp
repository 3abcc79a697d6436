#include "bench/trace.h"

#include <cmath>
#include <fstream>
#include <random>

#include "engine/request_report.h"
#include "engine/scheduler.h"
#include "io/json_file.h"

namespace cake {
namespace {

using nlohmann::json;

double number(const json& row, const char* key, const std::string& where) {
    const auto found = row.find(key);
    if (found == row.end() || !found->is_number() || found->get<double>() < 0)
        throw usage_error("{}: {} is missing, or no number from 0", where, key);
    return *found;
}

json percentiles(const std::vector<double>& values) {
    json out;
    for (const auto& [name, p] : {std::pair{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}})
        out[name] = values.empty() ? json() : json(percentile(values, p));
    return out;
}

}  // namespace

std::vector<TraceRequest> read_trace(const RunConfig::Bench& bench) {
    std::ifstream in(bench.requests);
    if (!in)
        throw usage_error("{}: cannot be opened; is the path right?", bench.requests);
    std::vector<TraceRequest> out;
    double first_ms = 0;
    int n = 0;
    for (std::string line; std::getline(in, line);) {
        const std::string where = fmt::format("{}:{}", bench.requests, ++n);
        if (line.find_first_not_of(" \t\r") == std::string::npos)
            continue;
        const json row = parse_json(line, where);
        if (!row.is_object())
            throw usage_error("{}: the line is no object", where);
        const double ms = number(row, "timestamp", where);
        if (out.empty())
            first_ms = ms;
        const auto length = [&](const char* key) {
            return std::max(1, int(std::lround(number(row, key, where) * bench.length_scale)));
        };
        out.push_back({(ms - first_ms) / 1e3 * bench.time_scale, length("input_length"),
                       length("output_length")});
        if (int(out.size()) == bench.max_requests)
            break;
    }
    if (out.empty())
        throw usage_error("{}: holds no requests", bench.requests);
    return out;
}

json play_trace(Engine& engine, const RunConfig& config, const std::vector<TraceRequest>& trace,
                const Sampling& sampling) {
    std::mt19937_64 random(std::uint64_t(config.bench.seed));
    std::size_t next = 0;
    std::vector<double> ttft_s, total_s, between_ms;
    std::int64_t in = 0, out = 0;
    const Timer timer;
    const Feed feed{
        .next = [&]() -> std::optional<Request> {
            if (next == trace.size())
                return {};
            const TraceRequest& t = trace[next];
            Request r;
            r.sampling = sampling;
            r.sampling.seed += next;
            r.id = std::to_string(next++);
            r.not_before_s = t.arrival_s;
            r.max_new_tokens = t.output;
            for (int i = 0; i < t.input; ++i)
                r.prompt.push_back(TokenId(random() % std::uint64_t(engine.plan().model.vocab)));
            return r;
        },
        .done =
            [&](const Request& r, const Generation& g) {
                const Timings& t = g.timings;
                ttft_s.push_back(t.queued_s + t.ttft_s);
                total_s.push_back(t.queued_s + t.ttft_s + t.decode_s);
                between_ms.insert(between_ms.end(), t.inter_token_ms.begin(),
                                  t.inter_token_ms.end());
                in += std::int64_t(r.prompt.size());
                out += std::int64_t(g.tokens.size());
            }};
    serve(engine, feed, {.interleave_ms = config.engine.interleave, .layers = false});
    const double wall_s = timer.seconds();
    return {{"kind", "requests"},
            {"requests", trace.size()},
            {"policy", engine.plan().policies.front().name},
            {"cache_size", engine.plan().policies.front().cache_size},
            {"batch", engine.plan().batch},
            {"time_scale", config.bench.time_scale},
            {"length_scale", config.bench.length_scale},
            {"prompt_tokens", in},
            {"output_tokens", out},
            {"wall_s", wall_s},
            {"prompt_tokens_per_s", double(in) / wall_s},
            {"output_tokens_per_s", double(out) / wall_s},
            {"ttft_s", percentiles(ttft_s)},
            {"end_to_end_s", percentiles(total_s)},
            {"inter_token_ms", percentiles(between_ms)}};
}

}  // namespace cake
