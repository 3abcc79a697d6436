// The table of configuration keys. Reading of files, --set, flags, the dump in reports, and help
// all go through it: a new key is a member of RunConfig and a row here.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <yaml-cpp/yaml.h>

#include "config/run_config.h"

namespace cake {

struct ConfigField {
    std::string path;     // "policy.cache_size"
    std::string allowed;  // "a whole number from 1 to 8"
    std::string help;
    std::function<bool(RunConfig&, const YAML::Node&)> read;  // false: this value is not allowed
    std::function<nlohmann::json(const RunConfig&)> write;    // null where unset
};

const std::vector<ConfigField>& config_fields();

}  // namespace cake
