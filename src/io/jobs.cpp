#include "io/jobs.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>
#include <utility>

#include "base/nearest.h"
#include "io/file_error.h"
#include "io/json_file.h"

namespace cake {
namespace {

using nlohmann::json;

constexpr std::int64_t any_integer = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t most_tokens = 1 << 27;

constexpr std::array<std::string_view, 7> known_keys{
    "id", "prompt", "tokens", "max_new_tokens", "stop", "seed", "temperature"};

// Of equally near ones the longest, which shares the most with it: max_tokens is max_new_tokens, not tokens.
std::string_view nearest_key(std::string_view key) {
    key = key.substr(0, 64);  // a longer one is no misspelling
    return *std::min_element(known_keys.begin(), known_keys.end(), [&](auto a, auto b) {
        return std::pair(edit_distance(key, a), b.size()) <
               std::pair(edit_distance(key, b), a.size());
    });
}

// A value as a message shows it.
std::string shown(const json& value) {
    if (value.is_object())
        return "an object";
    if (value.is_array())
        return "a list";
    return value.is_string() ? quote(value.get_ref<const std::string&>()) : quote(value.dump());
}

std::optional<std::int64_t> integer_in(const json& value, std::int64_t least, std::int64_t most) {
    if (!value.is_number_integer())
        return {};
    if (value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t(any_integer))
        return {};
    const auto number = value.get<std::int64_t>();
    return number >= least && number <= most ? std::optional(number) : std::nullopt;
}

// The value of a key; nothing where it is absent or null, since tools that write tables as JSON write both.
const json* find(const json& object, const char* key) {
    const auto at = object.find(key);
    return at == object.end() || at->is_null() ? nullptr : &*at;
}

std::optional<std::int64_t> integer(const json& object, const char* key, std::int64_t least,
                                    std::int64_t most) {
    const json* value = find(object, key);
    if (!value)
        return {};
    const auto number = integer_in(*value, least, most);
    if (!number)
        throw usage_error("{} is {}; allowed is a whole number from {} to {}", key, shown(*value),
                          least, most);
    return number;
}

std::vector<TokenId> read_tokens(const json& list) {
    if (!list.is_array() || list.empty())
        throw usage_error("tokens is {}; allowed is a list of token ids, not empty",
                          list.is_array() ? "an empty list" : shown(list));
    std::vector<TokenId> out;
    out.reserve(list.size());
    for (const json& item : list) {
        const auto id = integer_in(item, 0, std::numeric_limits<TokenId>::max());
        if (!id)
            throw usage_error("tokens holds {} at place {}; allowed are whole numbers from 0",
                              shown(item), out.size());
        out.push_back(TokenId(*id));
    }
    return out;
}

std::vector<std::string> read_stop(const json& value) {
    const json list = value.is_string() ? json::array({value}) : value;
    const auto is_text = [](const json& item) {
        return item.is_string() && !item.get_ref<const std::string&>().empty();
    };
    if (!list.is_array() || !std::all_of(list.begin(), list.end(), is_text))
        throw usage_error("stop is {}; allowed is a text or a list of texts, none of them empty",
                          value.is_array() ? "another list" : shown(value));
    return list.get<std::vector<std::string>>();
}

void read_settings(const json& object, Job& job) {
    for (const auto& [key, value] : object.items())
        if (std::find(known_keys.begin(), known_keys.end(), key) == known_keys.end())
            throw usage_error("unknown key {}; the nearest one is {}", quote(key),
                              nearest_key(key));

    const json *prompt = find(object, "prompt"), *tokens = find(object, "tokens");
    if (!prompt && !tokens)
        throw usage_error("prompt is missing (or tokens, a list of token ids)");
    if (prompt && tokens)
        throw usage_error("prompt and tokens are both given; leave one out");
    if (prompt && !prompt->is_string())
        throw usage_error("prompt is {}; allowed is a text", shown(*prompt));
    if (prompt)
        job.prompt = prompt->get<std::string>();
    else
        job.tokens = read_tokens(*tokens);

    if (const auto n = integer(object, "max_new_tokens", 1, most_tokens))
        job.max_new_tokens = int(*n);
    if (const json* stop = find(object, "stop"))
        job.stop = read_stop(*stop);
    job.seed = integer(object, "seed", 0, any_integer);
    if (const json* t = find(object, "temperature")) {
        if (!t->is_number() || !(t->get<double>() >= 0 && t->get<double>() <= 100))
            throw usage_error("temperature is {}; allowed is a number from 0 to 100", shown(*t));
        job.temperature = t->get<double>();
    }
}

std::string line_name(std::int64_t line) { return fmt::format("line {}", line); }

// "line 7", which is the id of line 7 where it has none: another line with it could be taken for that one.
bool names_a_line(std::string_view id) {
    constexpr std::string_view start = "line ";
    return id.starts_with(start) && id.size() > start.size() &&
           id.find_first_not_of("0123456789", start.size()) == std::string_view::npos;
}

std::unique_ptr<std::istream> open_jobs(const std::string& path) {
    if (path == "-")
        return nullptr;
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored))
        throw usage_error("{}: this is a folder, not a file of jobs", path);
    auto file = std::make_unique<std::ifstream>(path, std::ios::binary);
    if (!*file)
        throw usage_error("{}: cannot be opened: {}", path, std::strerror(errno));
    return file;
}

}  // namespace

bool next_line(std::istream& in, const std::string& name, std::size_t most, TextLine& line) {
    line.text.clear();
    line.terminated = line.too_long = false;
    line.bytes = 0;
    std::array<char, 1 << 16> part;
    while (!line.terminated) {
        in.getline(part.data(), std::streamsize(part.size()));  // does not wait for a full buffer
        const auto n = std::size_t(in.gcount());
        if (in.bad())
            throw Error(fmt::format("{}: cannot be read", name));
        line.bytes += std::int64_t(n);
        line.terminated = !in.fail() && !in.eof();
        if (!line.too_long)
            line.text.append(part.data(), n - (line.terminated ? 1 : 0));
        if (line.text.size() > most) {
            line.too_long = true;
            line.text = {};
        }
        if (in.eof())
            break;
        in.clear();  // the part was full
    }
    return line.bytes > 0;
}

JobReader::JobReader(const std::string& path)
    : file_(open_jobs(path)),
      in_(file_ ? file_.get() : &std::cin),
      name_(file_ ? path : "standard input") {}

JobReader::JobReader(std::istream& in, std::string name) : in_(&in), name_(std::move(name)) {}

std::optional<Job> JobReader::next() {
    TextLine line;
    while (next_line(*in_, name_, most_line_bytes, line)) {
        ++n_lines_;
        if (line.too_long || line.text.find_first_not_of(" \t\r") != std::string::npos)
            return read(line);
    }
    return {};
}

Job JobReader::read(const TextLine& line) {
    Job job;
    job.line = n_lines_;
    job.id = line_name(n_lines_);
    try {
        if (line.too_long)
            throw usage_error("the line has {} bytes; at most {} (16 MiB) are read", line.bytes,
                              most_line_bytes);
        json object;
        try {
            object = parse_json(line.text, "");
        } catch (const Error& error) {
            // ":1:COLUMN: ..." or ": ...": the line is not the first of its file
            std::string_view what = error.what();
            what.remove_prefix(what.starts_with(":1:") ? 2 : 0);
            job.error = fmt::format("{}:{}{}", name_, n_lines_, what);
            return job;
        }
        if (!object.is_object())
            throw usage_error(
                "the line is {}; allowed is an object, {{\"id\": ..., \"prompt\": ...}}",
                shown(object));
        take_id(object, job);
        read_settings(object, job);
    } catch (const Error& error) {
        Job failed;  // half of its settings help nobody
        failed.id = job.id;
        failed.line = job.line;
        failed.error = fmt::format("{}:{}: {}", name_, n_lines_, error.what());
        return failed;
    }
    return job;
}

void JobReader::take_id(const json& object, Job& job) {
    const json* id = find(object, "id");
    if (!id)
        throw usage_error("id is missing");
    if (!id->is_string() || id->get_ref<const std::string&>().empty())
        throw usage_error("id is {}; allowed is a text that is not empty", shown(*id));
    const auto& text = id->get_ref<const std::string&>();
    if (names_a_line(text) && text != job.id)
        throw usage_error("id is {}, which is kept for lines without an id; take another",
                          quote(text));
    // The job before it must not be taken for done because this one's result is there: so it keeps "line N".
    if (!ids_.insert(text).second)
        throw usage_error("id {} was given to a line before", quote(text));
    job.id = text;
}

}  // namespace cake
