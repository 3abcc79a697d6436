#include "eval/longbench_files.h"

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

const json& value_of(const json& object, const char* key) {
    const auto found = object.find(key);
    if (found == object.end())
        throw usage_error("the key {} is missing", quote(key));
    return *found;
}

std::string text_of(const json& object, const char* key) {
    const json& value = value_of(object, key);
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

Reference read_reference(const json& object) {
    Reference out;
    out.answers = texts_of(value_of(object, "answers"), "answers");
    if (out.answers.empty())
        throw usage_error("there are no answers to score by: 'answers' is empty");
    if (const json& classes = value_of(object, "all_classes"); !classes.is_null())
        out.all_classes = texts_of(classes, "all_classes");
    if (const auto length = object.find("length"); length != object.end()) {
        if (!length->is_number_integer())
            throw usage_error("'length' is no whole number");
        out.length = length->get<std::int64_t>();
    }
    return out;
}

LongBenchRow read_row(const json& object) {
    return {text_of(object, "input"), text_of(object, "context"), read_reference(object)};
}

Prediction read_prediction(const json& object) {
    return {text_of(object, "pred"), read_reference(object)};
}

template <typename Row>
std::vector<Row> read_lines(const std::string& path, Row (*read)(const json&)) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored))
        throw usage_error("{}: this is a folder, and must be a file", path);
    refuse_while_written(path);
    std::ifstream in(path, std::ios::binary);
    if (!in)
        throw usage_error("{}: cannot be opened", path);
    std::vector<Row> rows;
    TextLine line;
    for (std::int64_t number = 1; next_line(in, path, most_line_bytes, line); ++number) {
        if (!line.too_long && line.text.find_first_not_of(" \t\r") == std::string::npos)
            continue;
        const json object = parse_line(line, path, number);
        try {
            rows.push_back(read(object));
        } catch (const Error& error) {
            throw usage_error("{}:{}: {}", path, number, error.what());
        }
        rows.back().line = number;
    }
    if (rows.empty())
        throw usage_error("{}: there is no row in this file", path);
    return rows;
}

}  // namespace

std::vector<LongBenchRow> read_longbench_rows(const std::string& path) {
    return read_lines(path, read_row);
}

std::vector<Prediction> read_predictions(const std::string& path) {
    return read_lines(path, read_prediction);
}

std::string to_line(const Prediction& prediction) {
    nlohmann::ordered_json line;
    line["pred"] = prediction.pred;
    line["answers"] = prediction.reference.answers;
    line["all_classes"] = nullptr;
    if (prediction.reference.all_classes)
        line["all_classes"] = *prediction.reference.all_classes;
    if (prediction.reference.length)
        line["length"] = *prediction.reference.length;
    // Bytes that are no text become U+FFFD: an answer is not lost for them.
    return line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace cake
