// JSON files of models: config.json, tokenizer.json, model.safetensors.index.json.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace cake {

// Usage errors name the file, and line and column where it is not JSON. Refused as well: more than
// 256 MiB, nesting deeper than 64, more than 16 Mi values.
nlohmann::json read_json_file(const std::string& path);

// The same for text in memory; `file` names it in messages.
nlohmann::json parse_json(std::string_view text, const std::string& file);

}  // namespace cake
