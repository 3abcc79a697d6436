#include "config/machine.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <set>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/nearest.h"
#include "config/compiled_files.h"
#include "config/run_config.h"
#include "config/yaml_text.h"
#include "io/file_error.h"

namespace cake {
namespace {

using nlohmann::json;
using YAML::Node;

struct Field {
    std::string key, allowed;
    std::function<bool(Machine&, const Node&)> read;  // a scalar; false: not allowed
    std::function<json(const Machine&)> write;
    bool needed = true;
};

// A rate divides something, so it is not 0; a latency may be.
Field number(std::string key, double Machine::*member, bool zero) {
    return {key, zero ? "a number from 0 to 1e9" : "a number above 0, up to 1e9",
            [=](Machine& m, const Node& node) {
                return YAML::convert<double>::decode(node, m.*member) && m.*member <= 1e9 &&
                       (zero ? m.*member >= 0 : m.*member > 0);
            },
            [=](const Machine& m) { return json(m.*member); }};
}

std::vector<Field> make_fields() {
    const auto rate = [](std::string key, double Machine::*member) {
        return number(std::move(key), member, false);
    };
    const auto latency = [](std::string key, double Machine::*member) {
        return number(std::move(key), member, true);
    };
    return {
        {"name", "a text in UTF-8",
         [](Machine& m, const Node& node) {
             m.name = node.Scalar();
             return !m.name.empty() && is_utf8(m.name);
         },
         [](const Machine& m) { return json(m.name); }},
        {"devices_per_node", "a whole number from 1 to 65536",
         [](Machine& m, const Node& node) {
             const auto n = number_in(node.Scalar()).value_or(0);
             m.devices_per_node = int(n);
             return n >= 1 && n <= 65536;
         },
         [](const Machine& m) { return json(m.devices_per_node); }},
        {"shared", "true or false",
         [](Machine& m, const Node& node) {
             m.shared = node.Scalar() == "true";
             return m.shared || node.Scalar() == "false";
         },
         [](const Machine& m) { return json(m.shared); }, false},
        {"memory_bytes", "a number of bytes, with KiB, MiB, GiB or TiB behind it if you like",
         [](Machine& m, const Node& node) {
             m.memory_bytes = std::size_t(number_in(node.Scalar()).value_or(0));
             return m.memory_bytes > 0;
         },
         [](const Machine& m) { return json(m.memory_bytes); }},
        rate("read_gb_s", &Machine::read_gb_s),
        rate("gemm_tflop_s", &Machine::gemm_tflop_s),
        rate("attention_tflop_s", &Machine::attention_tflop_s),
        rate("link_gb_s", &Machine::link_gb_s),
        latency("link_latency_us", &Machine::link_latency_us),
        rate("network_gb_s", &Machine::network_gb_s),
        latency("network_latency_us", &Machine::network_latency_us),
        {"backend", "cpu or cuda",
         [](Machine& m, const Node& node) {
             m.backend = node.Scalar();
             return m.backend == "cpu" || m.backend == "cuda";
         },
         [](const Machine& m) { return json(m.backend); }},
    };
}

const std::vector<Field>& fields() {
    static const std::vector<Field> table = make_fields();
    return table;
}

const Field& find_field(const std::string& key, const std::string& where) {
    std::vector<std::string> known;
    for (const Field& field : fields()) {
        if (field.key == key)
            return field;
        known.push_back(field.key);
    }
    throw usage_error("{}: unknown key {} of a machine; the nearest one is {}", where, quote(key),
                      nearest(key, known));
}

// "h100" of "configs/machines/h100.yaml"
std::string name_of(const CompiledFile& file) {
    return std::filesystem::path(file.path).stem().string();
}

}  // namespace

Machine machine_from_text(const std::string& text, const std::string& name) {
    const YamlSource source{.name = name, .has_lines = true};
    const Node root = parse_yaml(text, source);
    if (!root.IsMap())
        throw usage_error("{}: a machine is a map of keys", name);
    Machine machine;
    std::set<std::string> seen;
    for (const auto& pair : root) {
        const std::string where = source.at(pair.first.Mark());
        if (!pair.first.IsScalar())
            throw usage_error("{}: the name of a key belongs here", where);
        const Field& field = find_field(pair.first.Scalar(), where);
        if (!seen.insert(field.key).second)
            throw usage_error("{}: {} is set twice", where, field.key);
        if (!pair.second.IsScalar() || !field.read(machine, pair.second))
            throw usage_error(
                "{}: {} is {}; allowed is {}", where, field.key,
                pair.second.IsScalar() ? quote(pair.second.Scalar()) : "no single value",
                field.allowed);
    }
    for (const Field& field : fields())
        if (field.needed && !seen.count(field.key))
            throw usage_error("{}: the key {} is missing: {}", name, field.key, field.allowed);
    return machine;
}

Machine read_machine(const std::string& which) {
    if (which.find('/') != std::string::npos || which.ends_with(".yaml") || which.ends_with(".yml"))
        return machine_from_text(yaml_file_text(which), which);
    std::vector<std::string> known;
    std::string all;
    for (const CompiledFile& file : machine_files()) {
        if (name_of(file) == which)
            return machine_from_text(file.text, file.path);
        known.push_back(name_of(file));
        all += (all.empty() ? "" : ", ") + known.back();
    }
    throw usage_error(
        "there is no machine {}; the nearest one is {} (there are {}), or give the path of a YAML "
        "file",
        quote(which), nearest(which, known), all);
}

json to_json(const Machine& machine) {
    json out = json::object();
    for (const Field& field : fields())
        out[field.key] = field.write(machine);
    return out;
}

}  // namespace cake
