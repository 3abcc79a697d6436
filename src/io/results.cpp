#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "io/file_error.h"
#include "io/jobs.h"
#include "io/json_file.h"

namespace cake {
namespace {

using nlohmann::json;

// A result holds a text, tokens, and numbers of layers: far less.
constexpr std::size_t most_line_bytes = std::size_t(256) << 20;

// Every line begins so; what is left of a first line cut short is told from another file by it.
constexpr std::string_view line_start = R"({"config":)";

struct Result {
    std::string id, config;
    bool failed;
};

std::optional<Result> result_in(const TextLine& line, const std::string& path) {
    if (line.too_long)
        return {};
    try {
        const json object = parse_json(line.text, path);
        if (!object.is_object())
            return {};
        const auto id = object.find("id"), config = object.find("config");
        if (id == object.end() || !id->is_string() || config == object.end() ||
            !config->is_string())
            return {};
        return Result{*id, *config, object.value("finish_reason", "") == "error"};
    } catch (const Error&) {
        return {};
    }
}

std::string reason() { return std::strerror(errno); }

}  // namespace

ResultWriter::ResultWriter(std::string path, std::string config_digest, bool append_anyway)
    : path_(std::move(path)), digest_(std::move(config_digest)) {
    if (path_ == "-") {
        path_ = "standard output";
        file_ = STDOUT_FILENO;
        return;
    }
    file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (file_ < 0)
        throw usage_error("{}: cannot be opened for writing: {}", path_, reason());
    try {
        take_over(append_anyway);
    } catch (...) {
        ::close(file_);
        throw;
    }
}

ResultWriter::~ResultWriter() {
    if (file_ >= 0 && file_ != STDOUT_FILENO)
        ::close(file_);
}

void ResultWriter::take_over(bool append_anyway) {
    struct stat facts {};
    regular_ = ::fstat(file_, &facts) == 0 && S_ISREG(facts.st_mode);
    if (!regular_)
        return;
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            throw usage_error(
                "{}: another running job writes to this file; wait for it, or name another output",
                path_);
        spdlog::warn("{}: cannot be locked ({}): see to it that no other job writes to it", path_,
                     reason());
    }

    std::ifstream in(path_, std::ios::binary);
    if (!in)
        throw usage_error("{}: cannot be read: {}", path_, reason());
    TextLine line;
    std::int64_t whole = 0, n_lines = 0, n_foreign = 0;  // bytes of whole lines; lines
    std::string cut;
    while (next_line(in, path_, most_line_bytes, line)) {
        if (!line.terminated) {
            cut = line.too_long ? "too long" : line.text;
            break;
        }
        whole += line.bytes;
        ++n_lines;
        if (line.bytes == 1)
            continue;
        const auto result = result_in(line, path_);
        if (!result) {
            ++n_foreign;
            continue;
        }
        if (result->config != digest_ && !append_anyway)
            throw usage_error(
                "{}:{}: this result was made with another configuration (digest {}, now {}): name "
                "another output (`batch` has --append-anyway too)",
                path_, n_lines, quote(result->config), digest_);
        done_.insert(result->id);
        n_failed_ += result->failed;
    }
    // A file that only looks like a cut result is the user's, and is not cut.
    const bool begins_like_ours = line_start.starts_with(cut) || cut.starts_with(line_start);
    if (done_.empty() && (n_foreign > 0 || !begins_like_ours))
        throw usage_error("{}: this file holds something else than results; name another output",
                          path_);
    if (n_foreign > 0)
        spdlog::warn("{}: {} lines are no results and are passed over", path_, n_foreign);
    if (line.bytes > 0 && !line.terminated) {
        spdlog::info("{}: the last line was cut short; its job is done again", path_);
        if (::ftruncate(file_, whole) != 0)
            throw Error(
                fmt::format("{}: cannot be cut after its last whole line: {}", path_, reason()));
    }
}

void ResultWriter::write(const json& result) {
    json rest = result;
    rest.erase("config");
    // Bytes that are no text become U+FFFD: a result is not lost for them.
    const std::string text = rest.dump(-1, ' ', false, json::error_handler_t::replace);
    const bool empty = rest.empty();
    append(fmt::format("{}{}{}{}\n", line_start, json(digest_).dump(), empty ? "" : ",",
                       std::string_view(text).substr(1)));
    if (const auto id = result.find("id"); id != result.end() && id->is_string())
        done_.insert(id->get<std::string>());
    n_failed_ += result.value("finish_reason", "") == "error";
}

void ResultWriter::append(std::string_view line) {
    const auto start = regular_ ? ::lseek(file_, 0, SEEK_END) : 0;
    while (!line.empty()) {  // once, but for pipes, and disks that are nearly full
        const ssize_t n = ::write(file_, line.data(), line.size());
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            const std::string why = reason();
            if (regular_ && ::ftruncate(file_, start) != 0)
                spdlog::warn("{}: half a line is left at its end", path_);
            throw Error(fmt::format("{}: a result cannot be written: {}", path_, why));
        }
        line.remove_prefix(std::size_t(n));
    }
}

}  // namespace cake
