#include "io/json_file.h"

#include <algorithm>

#include "io/file_error.h"
#include "io/mapped_file.h"

namespace cake {
namespace {

constexpr std::size_t most_bytes = std::size_t(256) << 20;
constexpr int most_depth = 64;
// A value takes at least 16 bytes once parsed, an empty list of two bytes 48. The vocabularies of
// the largest models make a million values.
constexpr std::size_t most_values = std::size_t(16) << 20;

struct Place {
    std::size_t line, column;  // from 1
};

Place place_of(std::string_view text, std::size_t byte) {
    const std::string_view before = text.substr(0, std::min(byte, text.size()));
    const std::size_t newline = before.rfind('\n');
    return {1 + std::size_t(std::count(before.begin(), before.end(), '\n')),
            1 + before.size() - (newline == std::string_view::npos ? 0 : newline + 1)};
}

// One pass before anything is built. Text that is not JSON may fool it, and then fails to parse
// at or before the place where it was fooled.
void check_extent(std::string_view text, const std::string& file) {
    int depth = 0;
    std::size_t values = 1;
    bool in_string = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\')
                ++i;
            else if (c == '"')
                in_string = false;
            continue;
        }
        if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            ++values;
            if (++depth > most_depth) {
                const Place at = place_of(text, i);
                throw usage_error("{}:{}:{}: lists or objects are nested deeper than {}", file,
                                  at.line, at.column, most_depth);
            }
        } else if (c == ']' || c == '}') {
            --depth;
        } else if (c == ',' && ++values > most_values) {
            throw usage_error("{} holds more than {} values", file, most_values);
        }
    }
    if (values > most_values)
        throw usage_error("{} holds more than {} values", file, most_values);
}

// nlohmann's message without its "[json.exception.parse_error.101] parse error at line 1 ...: ".
std::string reason(const nlohmann::json::exception& error) {
    const std::string_view all = error.what();
    const std::size_t id = all.find("] ");
    const std::size_t colon = all.find(": ", id == std::string_view::npos ? 0 : id);
    const std::size_t start = colon != std::string_view::npos ? colon + 2
                              : id != std::string_view::npos  ? id + 2
                                                              : 0;
    std::string out = quote(all.substr(start));
    return out.substr(1, out.size() - 2);
}

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& file) {
    if (text.size() > most_bytes)
        throw usage_error("{} has {} bytes; at most {} are read as JSON", file, text.size(),
                          most_bytes);
    if (text.starts_with("version https://git-lfs"))
        throw usage_error("{} is a Git LFS pointer, not the file; run `git lfs pull`", file);
    check_extent(text, file);
    try {
        return nlohmann::json::parse(text);
    } catch (const nlohmann::json::parse_error& error) {
        const Place at = place_of(text, error.byte == 0 ? 0 : error.byte - 1);
        throw usage_error("{}:{}:{}: not JSON: {}", file, at.line, at.column, reason(error));
    } catch (const nlohmann::json::exception& error) {  // a number too large for a double
        throw usage_error("{}: {}", file, reason(error));
    }
}

nlohmann::json read_json_file(const std::string& path) {
    const MappedFile file(path);
    const auto bytes = file.bytes();
    return parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

}  // namespace cake
