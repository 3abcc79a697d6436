// Kinds of configuration keys: what the table in config_fields.cpp is made of.
#pragma once

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <sstream>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "config/config_fields.h"
#include "config/yaml_text.h"

namespace cake::fields {

using nlohmann::json;
using YAML::Node;

inline constexpr std::int64_t any_integer = std::numeric_limits<std::int64_t>::max();
inline constexpr std::int64_t most_tokens = 1 << 27;

template <typename T>
std::optional<T> parse(const std::string& text) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
        return std::nullopt;
    return value;
}

template <typename T>
inline constexpr bool is_optional = false;
template <typename T>
inline constexpr bool is_optional<std::optional<T>> = true;

template <typename T>
json dump(const T& value) {
    if constexpr (is_optional<T>)
        return value ? dump(*value) : json();
    else
        return value;
}

// `get` returns the member of a RunConfig, const or not. `convert` makes its value of a scalar's
// text, or nothing where that is not allowed. A null unsets a member that can be unset, so that a
// dump can be read again.
template <typename Get, typename Convert>
ConfigField scalar(std::string path, Get get, std::string allowed, std::string help,
                   Convert convert) {
    auto read = [get, convert](RunConfig& config, const Node& node) {
        auto& member = get(config);
        if constexpr (is_optional<std::decay_t<decltype(member)>>) {
            if (node.IsNull()) {
                member.reset();
                return true;
            }
        }
        if (!node.IsScalar())
            return false;
        auto value = convert(node.Scalar());
        if (!value)
            return false;
        member = std::move(*value);
        return true;
    };
    auto write = [get](const RunConfig& config) { return dump(get(config)); };
    return {std::move(path), std::move(allowed), std::move(help), read, write};
}

template <typename Get>
ConfigField integer(std::string path, Get get, std::int64_t least, std::int64_t most,
                    std::string help) {
    const std::string allowed = most == any_integer
                                    ? fmt::format("a whole number from {}", least)
                                    : fmt::format("a whole number from {} to {}", least, most);
    return scalar(path, get, allowed, help, [least, most](const std::string& text) {
        const auto value = parse<std::int64_t>(text);
        return value && *value >= least && *value <= most ? value : std::nullopt;
    });
}

template <typename Get>
ConfigField number(std::string path, Get get, double least, double most, std::string help) {
    return scalar(path, get, fmt::format("a number from {} to {}", least, most), help,
                  [least, most](const std::string& text) {
                      const auto value = parse<double>(text);
                      return value && *value >= least && *value <= most ? value : std::nullopt;
                  });
}

template <typename Get>
ConfigField flag(std::string path, Get get, std::string help) {
    return scalar(path, get, "true or false", help,
                  [](const std::string& text) -> std::optional<bool> {
                      if (text == "true")
                          return true;
                      if (text == "false")
                          return false;
                      return std::nullopt;
                  });
}

template <typename Get>
ConfigField choice(std::string path, Get get, std::vector<std::string> words, std::string help) {
    std::string allowed;
    for (const std::string& word : words)
        allowed += (allowed.empty() ? "one of " : ", ") + word;
    return scalar(path, get, allowed, help,
                  [words](const std::string& text) -> std::optional<std::string> {
                      for (const std::string& word : words)
                          if (word == text)
                              return word;
                      return std::nullopt;
                  });
}

template <typename Get>
ConfigField text(std::string path, Get get, std::string help) {
    return scalar(path, get, "a text in UTF-8", help,
                  [](const std::string& text) -> std::optional<std::string> {
                      return is_utf8(text) ? std::optional(text) : std::nullopt;
                  });
}

// A word, or a number that the program would otherwise choose itself. Kept as text, dumped as what
// it is.
template <typename Get>
ConfigField word_or_number(std::string path, Get get, std::string word, std::int64_t least,
                           std::int64_t most, std::string what, std::string help) {
    const auto convert = [word, least,
                          most](const std::string& text) -> std::optional<std::string> {
        const auto value = number_in(text);
        return text == word || (value && *value >= least && *value <= most) ? std::optional(text)
                                                                            : std::nullopt;
    };
    ConfigField field = scalar(path, get, fmt::format("{}, or {}", word, what), help, convert);
    field.write = [get](const RunConfig& config) {
        const auto value = parse<std::int64_t>(get(config));
        return value ? json(*value) : json(get(config));
    };
    return field;
}

enum class Items { AtLeastOne, AnyNumber };

// Scalars, as a YAML list or in one text between commas. `convert` as above.
template <typename Get, typename Convert>
ConfigField list(std::string path, Get get, Items items, std::string allowed, std::string help,
                 Convert convert) {
    auto read = [get, items, convert](RunConfig& config, const Node& node) {
        std::vector<std::string> texts;
        if (node.IsScalar()) {
            std::istringstream in(node.Scalar());
            for (std::string item; std::getline(in, item, ',');)
                texts.push_back(item);
        }
        for (const Node& item : node) {
            if (!item.IsScalar())
                return false;
            texts.push_back(item.Scalar());
        }
        std::decay_t<decltype(get(config))> values;
        for (const std::string& text : texts) {
            const auto value = convert(text);
            if (!value)
                return false;
            values.push_back(*value);
        }
        if (values.empty() && items == Items::AtLeastOne)
            return false;
        get(config) = std::move(values);
        return true;
    };
    auto write = [get](const RunConfig& config) { return json(get(config)); };
    return {std::move(path), std::move(allowed), std::move(help), read, write};
}

template <typename Get>
ConfigField integers(std::string path, Get get, int least, int most, std::string help,
                     Items items = Items::AtLeastOne) {
    return list(path, get, items, fmt::format("a list of whole numbers from {} to {}", least, most),
                help, [least, most](const std::string& text) {
                    const auto value = parse<int>(text);
                    return value && *value >= least && *value <= most ? value : std::nullopt;
                });
}

template <typename Get>
ConfigField texts(std::string path, Get get, std::string help, Items items = Items::AtLeastOne) {
    return list(path, get, items, "a list of texts", help,
                [](const std::string& text) -> std::optional<std::string> {
                    return !text.empty() && is_utf8(text) ? std::optional(text) : std::nullopt;
                });
}

}  // namespace cake::fields
