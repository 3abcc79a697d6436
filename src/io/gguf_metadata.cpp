// What GgufFile answers about the metadata of its file.
#include <algorithm>
#include <limits>

#include "io/file_error.h"
#include "io/gguf.h"

namespace cake {
namespace {

std::string_view kind(const GgufValue& value) {
    static constexpr std::string_view names[] = {
        "an integer", "an integer",         "a number",          "true or false",
        "a string",   "a list of integers", "a list of numbers", "a list of strings"};
    return names[value.index()];
}

Error wrong_type(const std::string& file, std::string_view key, std::string_view wanted,
                 const GgufValue& value) {
    return usage_error("{}: {} is {}, not {}; convert the model again with a current llama.cpp",
                       file, quote(key), kind(value), wanted);
}

}  // namespace

GgufFile::GgufFile(const std::string& path)
    : file_(path), contents_(parse_gguf(file_.bytes(), path)) {}

const GgufValue* GgufFile::find(std::string_view key) const {
    const auto& all = contents_.metadata;
    const auto at = std::lower_bound(all.begin(), all.end(), key,
                                     [](const auto& entry, auto k) { return entry.first < k; });
    return at != all.end() && at->first == key ? &at->second : nullptr;
}

template <typename T>
const T* GgufFile::get(std::string_view key, std::string_view wanted) const {
    const GgufValue* value = find(key);
    if (!value)
        return nullptr;
    if (const T* held = std::get_if<T>(value))
        return held;
    throw wrong_type(file_.path(), key, wanted, *value);
}

std::optional<std::int64_t> GgufFile::integer(std::string_view key) const {
    const GgufValue* value = find(key);
    if (!value)
        return {};
    if (const auto* i = std::get_if<std::int64_t>(value))
        return *i;
    if (const auto* u = std::get_if<std::uint64_t>(value)) {
        if (*u <= std::uint64_t(std::numeric_limits<std::int64_t>::max()))
            return std::int64_t(*u);
        throw usage_error("{}: {} is {}, more than any count can be", file_.path(), quote(key), *u);
    }
    throw wrong_type(file_.path(), key, "an integer", *value);
}

std::optional<double> GgufFile::number(std::string_view key) const {
    const GgufValue* value = find(key);
    if (!value)
        return {};
    if (const auto* d = std::get_if<double>(value))
        return *d;
    if (const auto* i = std::get_if<std::int64_t>(value))
        return double(*i);
    if (const auto* u = std::get_if<std::uint64_t>(value))
        return double(*u);
    throw wrong_type(file_.path(), key, "a number", *value);
}

std::optional<bool> GgufFile::boolean(std::string_view key) const {
    const bool* value = get<bool>(key, "true or false");
    return value ? std::optional(*value) : std::nullopt;
}

std::optional<std::string> GgufFile::string(std::string_view key) const {
    const std::string* value = get<std::string>(key, "a string");
    return value ? std::optional(*value) : std::nullopt;
}

const std::vector<std::string>* GgufFile::strings(std::string_view key) const {
    return get<std::vector<std::string>>(key, "a list of strings");
}

const std::vector<std::int64_t>* GgufFile::integers(std::string_view key) const {
    return get<std::vector<std::int64_t>>(key, "a list of integers");
}

const std::vector<double>* GgufFile::numbers(std::string_view key) const {
    return get<std::vector<double>>(key, "a list of numbers");
}

std::vector<std::string> GgufFile::keys() const {
    std::vector<std::string> out;
    out.reserve(contents_.metadata.size());
    for (const auto& [key, value] : contents_.metadata)
        out.push_back(key);
    return out;
}

}  // namespace cake
