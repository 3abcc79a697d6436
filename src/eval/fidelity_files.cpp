#include "eval/fidelity_files.h"

#include <algorithm>

#include "base/error.h"

namespace cake {
namespace {

using nlohmann::json;

// A field of CSV, in quotes where it needs them (RFC 4180).
std::string field(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos)
        return text;
    std::string out = "\"";
    for (const char c : text)
        out += c == '"' ? "\"\"" : std::string(1, c);
    return out + "\"";
}

std::string key(const TextFidelity& t, const PolicyFidelity& p) {
    return fmt::format("{},{},{},{}", field(t.text), field(p.policy), p.cache_size,
                       t.prompt_tokens);
}

}  // namespace

json to_json(const TextFidelity& t) {
    json policies = json::array();
    for (const PolicyFidelity& p : t.policies) {
        json layers = json::array();
        for (const LayerFidelity& l : p.layers)
            layers.push_back(
                {{"budget", l.budget}, {"kept", l.kept}, {"attention_error", l.attention_error}});
        policies.push_back({{"policy", p.policy},
                            {"cache_size", p.cache_size},
                            {"kept_percent", p.kept_percent},
                            {"kl", p.kl},
                            {"agrees", p.agrees},
                            {"nll", p.nll},
                            {"layers", layers}});
    }
    return {{"text", t.text}, {"prompt_tokens", t.prompt_tokens}, {"policies", policies}};
}

TextFidelity fidelity_of(const json& row, const std::string& file) try {
    TextFidelity t{row.at("text"), row.at("prompt_tokens")};
    for (const json& from : row.at("policies")) {
        PolicyFidelity p{from.at("policy"), from.at("cache_size"), from.at("kept_percent")};
        from.at("kl").get_to(p.kl);
        from.at("agrees").get_to(p.agrees);
        from.at("nll").get_to(p.nll);
        for (const json& l : from.at("layers"))
            p.layers.push_back({l.at("budget"), l.at("kept"), l.at("attention_error")});
        if (p.kl.empty() || p.agrees.size() != p.kl.size() || p.nll.size() != p.kl.size())
            throw usage_error("{}: a policy's positions are not whole; remove the file", file);
        t.policies.push_back(std::move(p));
    }
    if (t.policies.empty())
        throw usage_error("{}: a line has no policies; remove the file", file);
    return t;
} catch (const json::exception& error) {
    throw usage_error("{}: a line was not written by `cake eval fidelity` ({}); remove the file",
                      file, error.what());
}

std::string fidelity_csv(std::span<const TextFidelity> texts) {
    std::string out =
        "text,policy,cache_size,prompt_tokens,positions,kept_percent,kl_mean,kl_p99,"
        "top1_agreement,perplexity,perplexity_full,attention_error\n";
    for (const TextFidelity& t : texts)
        for (const PolicyFidelity& p : t.policies)
            out +=
                fmt::format("{},{},{:.9g},{:.9g},{:.9g},{:.9g},{:.9g},{:.9g},{:.9g}\n", key(t, p),
                            p.kl.size(), p.kept_percent, mean(p.kl), p.kl_p99(), p.top1_agreement(),
                            perplexity(p.nll), perplexity(t.full().nll), p.attention_error());
    return out;
}

std::string positions_csv(std::span<const TextFidelity> texts) {
    std::string out = "text,policy,cache_size,prompt_tokens,position,kl,agrees,nll,nll_full\n";
    for (const TextFidelity& t : texts)
        for (const PolicyFidelity& p : t.policies)
            for (std::size_t i = 0; i < p.kl.size(); ++i)
                out += fmt::format("{},{},{:.9g},{},{:.9g},{:.9g}\n", key(t, p), i + 1, p.kl[i],
                                   p.agrees[i], p.nll[i], t.full().nll[i]);
    return out;
}

std::string layers_csv(std::span<const TextFidelity> texts) {
    std::string out = "text,policy,cache_size,prompt_tokens,layer,budget,kept,attention_error\n";
    for (const TextFidelity& t : texts)
        for (const PolicyFidelity& p : t.policies)
            for (std::size_t l = 0; l < p.layers.size(); ++l)
                out += fmt::format("{},{},{},{},{:.9g}\n", key(t, p), l, p.layers[l].budget,
                                   p.layers[l].kept, p.layers[l].attention_error);
    return out;
}

std::vector<FidelityMeans> means_over_texts(std::span<const TextFidelity> texts) {
    std::vector<FidelityMeans> out;
    for (const TextFidelity& t : texts)
        for (const PolicyFidelity& p : t.policies) {
            auto m = std::find_if(out.begin(), out.end(), [&](const FidelityMeans& other) {
                return other.policy == p.policy && other.cache_size == p.cache_size &&
                       other.prompt_tokens == t.prompt_tokens;
            });
            if (m == out.end())
                m = out.insert(out.end(), {p.policy, p.cache_size, t.prompt_tokens});
            ++m->texts;
            const auto add = [&](double& to, double value) { to += (value - to) / m->texts; };
            add(m->kept_percent, p.kept_percent);
            add(m->kl_mean, mean(p.kl));
            add(m->kl_p99, p.kl_p99());
            add(m->top1_agreement, p.top1_agreement());
            add(m->perplexity, perplexity(p.nll));
            add(m->perplexity_full, perplexity(t.full().nll));
            add(m->attention_error, p.attention_error());
        }
    return out;
}

json to_json(const FidelityMeans& m) {
    return {{"policy", m.policy},
            {"cache_size", m.cache_size},
            {"prompt_tokens", m.prompt_tokens},
            {"texts", m.texts},
            {"kept_percent", m.kept_percent},
            {"kl_mean", m.kl_mean},
            {"kl_p99", m.kl_p99},
            {"top1_agreement", m.top1_agreement},
            {"perplexity", m.perplexity},
            {"perplexity_full", m.perplexity_full},
            {"attention_error", m.attention_error}};
}

std::string fidelity_table(std::span<const FidelityMeans> means) {
    std::string out =
        "| policy | C | prompt | texts | kept % | KL mean | KL p99 | top-1 % | perplexity | "
        "of full | attention error |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for (const FidelityMeans& m : means)
        out += fmt::format(
            "| {} | {} | {} | {} | {:.2f} | {:.4f} | {:.3f} | {:.1f} | {:.3f} | {:.3f} | {:.4f} "
            "|\n",
            m.policy, m.cache_size > 0 ? std::to_string(m.cache_size) : "-", m.prompt_tokens,
            m.texts, m.kept_percent, m.kl_mean, m.kl_p99, 100 * m.top1_agreement, m.perplexity,
            m.perplexity_full, m.attention_error);
    return out;
}

}  // namespace cake
