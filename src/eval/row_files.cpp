#include "eval/row_files.h"

#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sys/file.h>
#include <unistd.h>

#include "io/file_error.h"
#include "io/jobs.h"
#include "io/json_file.h"

namespace cake {
namespace {

using nlohmann::json;

// The longest context of LongBench has some hundred thousand words.
constexpr std::size_t most_line_bytes = std::size_t(64) << 20;

// A job holds a lock on what it writes (io/jobs.h); half of its answers would be scored as if they were all.
void refuse_while_written(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0)
        throw usage_error("{}: cannot be opened: {}", path, std::generic_category().message(errno));
    const bool written = ::flock(file, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    ::close(file);
    if (written)
        throw usage_error("{}: a job is writing to this file; wait until it has ended", path);
}

json parse_line(const TextLine& line, const std::string& path, std::int64_t number) {
    if (line.too_long)
        throw usage_error("{}:{}: the line has {} bytes; at most {} are read", path, number,
                          line.bytes, most_line_bytes);
    json object;
    try {
        object = parse_json(line.text, "");
    } catch (const Error& error) {
        if (!line.terminated)
            throw usage_error(
                "{}:{}: the last line is cut short: what wrote it is still running, or was killed; "
                "let it end, or start it again",
                path, number);
        // ":1:COLUMN: ..." or ": ...": the line is not the first of its file
        std::string_view what = error.what();
        what.remove_prefix(what.starts_with(":1:") ? 2 : 0);
        throw usage_error("{}:{}{}", path, number, what);
    }
    if (!object.is_object())
        throw usage_error("{}:{}: the line is no JSON object", path, number);
    return object;
}

}  // namespace

const json& value_of(const json& row, const char* key) {
    const auto found = row.find(key);
    if (found == row.end())
        throw usage_error("the key {} is missing", quote(key));
    return *found;
}

std::string text_of(const json& row, const char* key) {
    const json& value = value_of(row, key);
    if (!value.is_string())
        throw usage_error("{} is no text", quote(key));
    return value;
}

std::vector<std::string> texts_of(const json& list, const char* key) {
    if (!list.is_array())
        throw usage_error("{} is no list of texts", quote(key));
    std::vector<std::string> texts;
    for (const json& text : list) {
        if (!text.is_string())
            throw usage_error("{} holds something else than texts", quote(key));
        texts.push_back(text);
    }
    return texts;
}

void for_each_row(const std::string& path,
                  const std::function<void(const json& row, std::int64_t line)>& read) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored))
        throw usage_error("{}: this is a folder, and must be a file", path);
    refuse_while_written(path);
    std::ifstream in(path, std::ios::binary);
    if (!in)
        throw usage_error("{}: cannot be opened", path);
    bool none = true;
    TextLine line;
    for (std::int64_t number = 1; next_line(in, path, most_line_bytes, line); ++number) {
        if (!line.too_long && line.text.find_first_not_of(" \t\r") == std::string::npos)
            continue;
        const json row = parse_line(line, path, number);
        try {
            read(row, number);
        } catch (const Error& error) {
            throw usage_error("{}:{}: {}", path, number, error.what());
        }
        none = false;
    }
    if (none)
        throw usage_error("{}: there is no row in this file", path);
}

}  // namespace cake
