#include "config/run_config.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/nearest.h"
#include "config/config_fields.h"
#include "config/yaml_text.h"
#include "io/file_error.h"

namespace cake {
namespace {

using nlohmann::json;
using YAML::Node;

const ConfigField* find_field(const std::string& path) {
    const auto& fields = config_fields();
    const auto found =
        std::find_if(fields.begin(), fields.end(), [&](const auto& f) { return f.path == path; });
    return found == fields.end() ? nullptr : &*found;
}

bool is_section(const std::string& path) {
    const auto& fields = config_fields();
    return path.empty() || std::any_of(fields.begin(), fields.end(), [&](const auto& field) {
               return field.path.starts_with(path + ".");
           });
}

std::string found_in(const Node& node) {
    if (node.IsScalar())
        return quote(node.Scalar());
    if (node.IsSequence())
        return "a list";
    if (node.IsMap())
        return "a map";
    return "nothing";
}

Error unknown_key(const std::string& path, const std::string& where) {
    std::vector<std::string> known;
    for (const ConfigField& field : config_fields())
        known.push_back(field.path);
    return usage_error("{}: unknown key {}; the nearest one is {}", where, quote(path),
                       nearest(path, known));
}

// Only sections of the table are entered, so what a file nests, repeats by alias, or ties into a
// loop is never walked.
void apply_node(RunConfig& config, const Node& node, const std::string& path,
                const YamlSource& source) {
    if (const ConfigField* field = find_field(path)) {
        if (!field->read(config, node))
            throw usage_error("{}: {} is {}; allowed is {}", source.at(node.Mark()), path,
                              found_in(node), field->allowed);
        return;
    }
    if (node.IsNull())
        return;  // an empty section
    if (!node.IsMap())
        throw usage_error("{}: {} is {}; allowed is a map of keys", source.at(node.Mark()),
                          path.empty() ? "the configuration" : path, found_in(node));

    std::set<std::string> seen;
    for (const auto& pair : node) {
        const Node& key = pair.first;
        const std::string where = source.at(key.Mark());
        if (!key.IsScalar())
            throw usage_error("{}: {} where the name of a key belongs", where, found_in(key));
        const std::string child = path.empty() ? key.Scalar() : path + "." + key.Scalar();
        if (!find_field(child) && !is_section(child))
            throw unknown_key(child, where);
        if (!seen.insert(child).second)
            throw usage_error("{}: {} is set twice", where, child);
        apply_node(config, pair.second, child, source);
    }
}

void apply_text(RunConfig& config, const std::string& text, const YamlSource& source) {
    RunConfig changed = config;  // so that an error leaves `config` as it was
    apply_node(changed, parse_yaml(text, source), "", source);
    config = std::move(changed);
}

}  // namespace

void apply_config_file(RunConfig& config, const std::string& path) {
    apply_config_text(config, yaml_file_text(path), path);
}

void apply_config_text(RunConfig& config, const std::string& text, const std::string& name) {
    apply_text(config, text, {.name = name, .has_lines = true});
}

void apply_setting(RunConfig& config, const std::string& assignment) {
    const YamlSource source{.name = "--set " + assignment.substr(0, 96)};
    const std::size_t equals = assignment.find('=');
    if (equals == std::string::npos)
        throw usage_error("{}: write key.path=value, for example --set policy.window=32",
                          source.name);
    const std::string key = assignment.substr(0, equals), value = assignment.substr(equals + 1);
    if (key.empty() || (!find_field(key) && !is_section(key)))
        throw unknown_key(key, source.name);
    apply_node(config, parse_yaml(value, source), key, source);
}

void apply_value(RunConfig& config, const std::string& key, const std::string& value,
                 const std::string& where) {
    CAKE_CHECK(find_field(key) != nullptr, "{} sets the unknown key {}", where, key);
    apply_node(config, Node(value), key, {.name = where});
}

json to_json(const RunConfig& config) {
    json out = json::object();
    for (const ConfigField& field : config_fields()) {
        std::string pointer = "/" + field.path;
        std::replace(pointer.begin(), pointer.end(), '.', '/');
        out[json::json_pointer(pointer)] = field.write(config);
    }
    return out;
}

std::vector<ConfigKey> config_keys() {
    std::vector<ConfigKey> keys;
    const RunConfig defaults;
    for (const ConfigField& field : config_fields()) {
        const json value = field.write(defaults);
        const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
        keys.push_back({field.path, fmt::format("{} ({}; default {})", field.help, field.allowed,
                                                value.is_null() ? "the policy's"
                                                : text.empty()  ? "none"
                                                                : text)});
    }
    return keys;
}

}  // namespace cake
