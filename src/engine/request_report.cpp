#include "engine/request_report.h"

#include <algorithm>

#include "base/hash.h"

namespace cake {
namespace {

using nlohmann::json;

// Hash of the kept positions of a KV head, ascending, as little-endian int32.
std::string digest(const std::vector<std::int32_t>& positions) {
    return hex64(fnv1a(std::as_bytes(std::span(positions))));
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

// Each rank knows the tokens of its own KV heads. Whole on rank 0.
json layers_json(Engine& engine, const Generation& g) {
    json mine = json::array();
    for (const LayerResult& layer : g.layers) {
        mine.push_back(json::array());
        for (const auto& head : layer.positions)
            mine.back().push_back(digest(head));
    }
    const std::vector<json> per_rank = gather_json(engine.comm(), mine);
    const ModelConfig& m = engine.plan().model;
    json layers = json::array();
    for (std::size_t l = 0; l < g.layers.size(); ++l) {
        const LayerResult& r = g.layers[l];
        json digests = json::array();
        for (const json& rank : per_rank)
            for (const json& d : rank[l])
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

}  // namespace

double percentile(std::vector<double> values, double p) {
    const auto at = std::min(values.size() - 1, std::size_t(p * double(values.size())));
    std::nth_element(values.begin(), values.begin() + std::ptrdiff_t(at), values.end());
    return values[at];
}

std::vector<json> gather_json(Communicator& comm, const json& mine) {
    std::vector<json> out;
    for (const std::string& text : comm.gather_strings(mine.dump()))
        out.push_back(json::parse(text));
    return out;
}

json request_json(Engine& engine, const Request& request, const Generation& g,
                  const std::string& text) {
    const json layers = g.layers.empty() ? json::array() : layers_json(engine, g);
    if (engine.comm().rank() != 0)
        return {};
    json out{{"id", request.id},
             {"prompt_tokens", request.prompt.size()},
             {"output_tokens", g.tokens.size()},
             {"tokens", g.tokens},
             {"text", text},
             {"finish_reason", g.finish_reason},
             {"evicted", g.evicted},
             {"layers", layers},
             {"timings", timings_json(request, g)}};
    for (const TokenLogprobs& logprobs : g.logprobs)
        out["logprobs"].push_back(to_json(logprobs));
    return out;
}

json kept_json(Engine& engine, const Request& request, const Generation& g) {
    json mine = json::array();
    for (const LayerResult& layer : g.layers)
        mine.push_back(layer.positions);
    const std::vector<json> ranks = gather_json(engine.comm(), mine);
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
    return {{"id", request.id}, {"layers", layers}};
}

}  // namespace cake
