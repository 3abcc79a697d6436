#include "policy/policy_list.h"

#include <algorithm>
#include <sstream>

#include "base/nearest.h"
#include "io/file_error.h"

namespace cake {
namespace {

// A cell's name and value, "share=uniform", over `cells`.
PolicyConfig with_cell(const PolicyConfig& cells, const std::string& assignment,
                       const std::string& name) {
    RunConfig config;
    config.policy = cells;
    const std::size_t equals = assignment.find('=');
    const std::string key = "policy." + assignment.substr(0, equals);
    std::vector<std::string> known;
    for (const ConfigKey& k : config_keys())
        if (k.path.starts_with("policy.") && k.path != "policy.name")
            known.push_back(k.path);
    if (std::ranges::count(known, key) == 0)
        throw usage_error("policy {}: there is no {}; the nearest one is {}", quote(name),
                          quote(key), nearest(key, known));
    if (equals == std::string::npos)
        throw usage_error("policy {}: {} has no value; write NAME:cell=value", quote(name), key);
    apply_value(config, key, assignment.substr(equals + 1), fmt::format("policy {}", quote(name)));
    return config.policy;
}

PolicyConfig cells_of(const PolicyConfig& base, const std::string& name) {
    std::istringstream parts(name);
    PolicyConfig cells = base;
    std::getline(parts, cells.name, ':');
    for (std::string cell; std::getline(parts, cell, ':');)
        cells = with_cell(cells, cell, name);
    return cells;
}

}  // namespace

std::vector<ListedPolicy> list_policies(const PolicyConfig& base,
                                        std::span<const std::string> names,
                                        std::span<const int> cache_sizes,
                                        const ModelConfig& model) {
    std::vector<ListedPolicy> out;
    const auto add = [&](const std::string& name, PolicyConfig cells) {
        Policy policy = make_policy(cells, model);
        policy.name = name;
        std::string label =
            policy.keeps_everything() ? name : fmt::format("{}-{}", name, policy.cache_size);
        if (std::ranges::count(out, label, &ListedPolicy::label) == 0)
            out.push_back({std::move(cells), std::move(policy), std::move(label)});
    };
    const std::span<const std::string> all = names.empty() ? std::span(&base.name, 1) : names;
    for (const std::string& name : all) {
        const PolicyConfig cells = cells_of(base, name);
        if (cache_sizes.empty())
            add(name, cells);
        for (int size : cache_sizes) {
            PolicyConfig sized = cells;
            sized.cache_size = size;
            add(name, std::move(sized));
        }
    }
    return out;
}

std::vector<ListedPolicy> eval_policies(const RunConfig& config, const ModelConfig& model) {
    std::vector<ListedPolicy> all =
        list_policies(config.policy, config.eval.policies, config.eval.cache_sizes, model);
    const std::string& part = config.eval.part;
    const std::size_t slash = std::min(part.find('/'), part.size());
    const auto at = number_in(part.substr(0, slash));
    const auto of = slash < part.size() ? number_in(part.substr(slash + 1)) : std::nullopt;
    if (!at || !of || *at >= *of)
        throw usage_error("eval.part is {}: write I/N, as 0/4 to 3/4 for four parts", quote(part));
    if (*at >= std::int64_t(all.size()))
        throw usage_error("eval.part is {}, and there are only {} policies", quote(part),
                          all.size());
    std::vector<ListedPolicy> out;
    for (auto i = std::size_t(*at); i < all.size(); i += std::size_t(*of))
        out.push_back(std::move(all[i]));
    return out;
}

}  // namespace cake
