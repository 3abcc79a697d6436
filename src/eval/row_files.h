// Rows of an evaluation's files: a JSON object a line.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace cake {

// Calls `read` with each row of a file and its line, from 1; lines of white space are passed over. Usage errors name file and
// line, those of `read` too: no JSON object, a last line that was cut short, no row, a file that another job is writing.
void for_each_row(const std::string& path,
                  const std::function<void(const nlohmann::json& row, std::int64_t line)>& read);

// For `read`. Usage errors: the key is missing, or its value is of another type.
const nlohmann::json& value_of(const nlohmann::json& row, const char* key);
std::string text_of(const nlohmann::json& row, const char* key);
std::vector<std::string> texts_of(const nlohmann::json& list, const char* key);

}  // namespace cake
