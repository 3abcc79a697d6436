#include "config/json_keys.h"

#include <cmath>
#include <utility>

#include "base/error.h"
#include "io/file_error.h"

namespace cake {
namespace {

// A value as messages show it: short, and fit for a terminal.
std::string shown(const nlohmann::json& value) {
    if (value.is_object())
        return "an object";
    if (value.is_array())
        return fmt::format("a list of {}", value.size());
    if (value.is_string())
        return quote(value.get_ref<const std::string&>());
    return value.dump();
}

}  // namespace

JsonKeys::JsonKeys(const nlohmann::json& object, const std::string& file, std::string prefix)
    : object_(object), file_(file), prefix_(std::move(prefix)) {
    if (!object.is_object())
        throw usage_error("{}: {} where an object with keys belongs", file,
                          prefix_.empty()
                              ? shown(object)
                              : prefix_.substr(0, prefix_.size() - 1) + " is " + shown(object));
}

const nlohmann::json* JsonKeys::find(const std::string& key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::optional<std::int64_t> JsonKeys::integer(const std::string& key, std::int64_t least,
                                              std::int64_t most) const {
    const nlohmann::json* value = find(key);
    if (!value)
        return std::nullopt;
    const std::string allowed = fmt::format("a whole number from {} to {} is allowed", least, most);
    // Through double: every size that is allowed is far below 2^53, and no JSON number is too large
    // for it.
    const double x = value->is_number() ? value->get<double>() : std::nan("");
    if (!(x >= double(least) && x <= double(most) && x == std::floor(x)))
        refuse(key, allowed);
    return std::int64_t(x);
}

std::optional<double> JsonKeys::number(const std::string& key, double least, double most) const {
    const nlohmann::json* value = find(key);
    if (!value)
        return std::nullopt;
    const double x = value->is_number() ? value->get<double>() : std::nan("");
    if (!(x >= least && x <= most))
        refuse(key, fmt::format("a number from {} to {} is allowed", least, most));
    return x;
}

std::optional<bool> JsonKeys::boolean(const std::string& key) const {
    const nlohmann::json* value = find(key);
    if (!value)
        return std::nullopt;
    if (!value->is_boolean())
        refuse(key, "true or false is allowed");
    return value->get<bool>();
}

std::optional<std::string> JsonKeys::string(const std::string& key) const {
    const nlohmann::json* value = find(key);
    if (!value)
        return std::nullopt;
    if (!value->is_string())
        refuse(key, "a text is allowed");
    return value->get<std::string>();
}

std::int64_t JsonKeys::required_integer(const std::string& key, std::int64_t least,
                                        std::int64_t most) const {
    const auto value = integer(key, least, most);
    if (!value)
        throw usage_error("{}: {}{} is missing", file_, prefix_, key);
    return *value;
}

void JsonKeys::refuse(const std::string& key, const std::string& supported) const {
    const nlohmann::json* value = find(key);
    throw usage_error("{}: {}{} is {}; {}", file_, prefix_, key, value ? shown(*value) : "missing",
                      supported);
}

}  // namespace cake
