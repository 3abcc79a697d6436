// Reads the keys of a JSON object that may hold anything: every error names file and key, what was
// found and what is allowed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

namespace cake {

class JsonKeys {
public:
    // `prefix`: put before the keys in messages ("rope_scaling."). Throws where `object` is not an
    // object.
    JsonKeys(const nlohmann::json& object, const std::string& file, std::string prefix = "");

    // The value, or null where the key is absent or its value is null: models write both.
    const nlohmann::json* find(const std::string& key) const;
    bool has(const std::string& key) const { return find(key) != nullptr; }

    // Absent: nothing. Of another type or outside [least, most]: a usage error.
    std::optional<std::int64_t> integer(const std::string& key, std::int64_t least,
                                        std::int64_t most) const;
    std::optional<double> number(const std::string& key, double least, double most) const;
    std::optional<bool> boolean(const std::string& key) const;
    std::optional<std::string> string(const std::string& key) const;

    // Absent: a usage error as well.
    std::int64_t required_integer(const std::string& key, std::int64_t least,
                                  std::int64_t most) const;

    // Complains about the value of `key`: "FILE: KEY is FOUND; SUPPORTED".
    [[noreturn]] void refuse(const std::string& key, const std::string& supported) const;

private:
    const nlohmann::json& object_;
    const std::string& file_;
    std::string prefix_;
};

}  // namespace cake
