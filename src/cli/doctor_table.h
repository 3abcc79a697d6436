// The report of `cake doctor` for people.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace cake {

std::string doctor_table(const nlohmann::json& report);

}  // namespace cake
