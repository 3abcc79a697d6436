// configs/models/*.yaml: `match` lists descriptions of models, each a map of sizes, architecture or
// a part of the name; one whose every entry agrees is enough. `tau` maps cache sizes to [tau1,
// tau2].
#include <algorithm>
#include <cctype>
#include <cmath>

#include <yaml-cpp/yaml.h>

#include "base/error.h"
#include "config/compiled_files.h"
#include "config/model_config.h"
#include "config/run_config.h"

namespace cake {
namespace {

std::string lower_case(std::string text) {
    for (char& c : text)
        c = char(std::tolower(static_cast<unsigned char>(c)));
    return text;
}

bool agrees(const std::string& key, const YAML::Node& value, const ModelConfig& model) {
    if (key == "architecture")
        return value.as<std::string>() == model.architecture;
    if (key == "name")
        return lower_case(model.name).find(lower_case(value.as<std::string>())) !=
               std::string::npos;
    const int wanted = value.as<int>();
    if (key == "layers")
        return wanted == model.n_layers;
    if (key == "d_model")
        return wanted == model.d_model;
    if (key == "heads")
        return wanted == model.n_heads;
    if (key == "kv_heads")
        return wanted == model.n_kv_heads;
    if (key == "d_head")
        return wanted == model.d_head;
    if (key == "d_ff")
        return wanted == model.d_ff;
    if (key == "vocab")
        return wanted == model.vocab;
    if (key == "context")
        return wanted == model.max_positions;
    throw Error("unknown key " + key + " in match");
}

bool matches(const YAML::Node& descriptions, const ModelConfig& model) {
    return std::any_of(
        descriptions.begin(), descriptions.end(), [&](const YAML::Node& description) {
            return std::all_of(description.begin(), description.end(), [&](const auto& entry) {
                return agrees(entry.first.template as<std::string>(), entry.second, model);
            });
        });
}

// The pair of the cache size that is nearest in log2; of two equally near the larger.
void choose_tau(const YAML::Node& table, int cache_size, ModelDefaults& out) {
    CAKE_CHECK(table.IsMap() && table.size() > 0, "{} has no tau", out.file);
    double least = INFINITY;
    int chosen = 0;
    for (const auto& entry : table) {
        const int size = entry.first.as<int>();
        const double distance =
            std::abs(std::log2(double(std::max(cache_size, 1))) - std::log2(double(size)));
        if (distance > least || (distance == least && size < chosen))
            continue;
        least = distance;
        chosen = size;
        out.tau1 = entry.second[0].as<double>();
        out.tau2 = entry.second[1].as<double>();
    }
}

}  // namespace

ModelDefaults model_defaults(const ModelConfig& model, int cache_size) {
    ModelDefaults out;
    for (const CompiledFile& file : model_files()) {
        try {
            const YAML::Node root = YAML::Load(file.text);
            if (!matches(root["match"], model))
                continue;
            out.file = file.path;
            choose_tau(root["tau"], cache_size, out);
            out.longest_prompt = root["longest_prompt"].as<int>();
            return out;
        } catch (const std::exception&
                     error) {  // it was compiled in: an error of this program, not of the user
            throw Error(fmt::format("{}: {}", file.path, error.what()));
        }
    }
    return out;
}

}  // namespace cake
