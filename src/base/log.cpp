#include "base/log.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <memory>
#include <unistd.h>
#include <utility>

#include <spdlog/formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "base/error.h"
#include "base/progress.h"

namespace cake {
namespace {

using Level = spdlog::level::level_enum;

Level parse_level(const std::string& name) {
    constexpr std::array<std::pair<const char*, Level>, 6> levels{{{"trace", Level::trace},
                                                                   {"debug", Level::debug},
                                                                   {"info", Level::info},
                                                                   {"warning", Level::warn},
                                                                   {"error", Level::err},
                                                                   {"off", Level::off}}};
    for (const auto& [known, level] : levels)
        if (name == known)
            return level;
    throw usage_error("unknown log level '{}': one of trace, debug, info, warning, error, off",
                      name);
}

const char* word(Level level) {
    switch (level) {
        case Level::trace: return "trace: ";
        case Level::debug: return "debug: ";
        case Level::warn: return "warning: ";
        case Level::err:
        case Level::critical: return "error: ";
        default: return "";
    }
}

class LineFormatter final : public spdlog::formatter {
public:
    explicit LineFormatter(std::string prefix) : prefix_(std::move(prefix)) {}

    void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& line) override {
        const char* erase = Progress::is_shown() ? "\r\033[K" : "";  // the bar has the line
        fmt::format_to(std::back_inserter(line), "{}{}{}{}\n", erase, prefix_, word(message.level),
                       std::string_view(message.payload.data(), message.payload.size()));
    }
    std::unique_ptr<spdlog::formatter> clone() const override {
        return std::make_unique<LineFormatter>(prefix_);
    }

private:
    std::string prefix_;
};

std::shared_ptr<spdlog::sinks::sink> terminal_sink(int rank) {
    auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    const std::string prefix =
        rank == 0 ? "cake: " : fmt::format("[rank {} {}] cake: ", rank, host_name());
    sink->set_formatter(std::make_unique<LineFormatter>(prefix));
    return sink;
}

std::atomic<int> the_log_file{-1};  // signal handlers get no argument of ours

std::shared_ptr<spdlog::sinks::sink> file_sink(int rank, const std::string& folder) {
    try {
        std::filesystem::create_directories(folder);
        const std::string path = fmt::format("{}/rank-{}.log", folder, rank);
        auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
        the_log_file = open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
        sink->set_pattern(
            fmt::format("%Y-%m-%dT%H:%M:%S.%e%z rank {} {} %l: %v", rank, host_name()));
        return sink;
    } catch (const std::exception& error) {
        throw usage_error("the log's folder {} cannot be written: {}", folder, error.what());
    }
}

}  // namespace

void init_log(int rank, const std::string& level, bool quiet, const std::string& folder) {
    const Level asked = parse_level(level);
    Level least = asked;
    if (quiet)
        least = std::max(least, Level::warn);
    if (rank != 0)
        least = std::max(least, Level::err);

    auto logger = std::make_shared<spdlog::logger>("cake", terminal_sink(rank));
    logger->sinks()[0]->set_level(least);
    if (!folder.empty()) {
        logger->sinks().push_back(file_sink(rank, folder));
        least = std::min(asked, Level::debug);
        logger->sinks()[1]->set_level(least);
        logger->flush_on(least);
    }
    logger->set_level(least);
    spdlog::set_default_logger(std::move(logger));
}

int log_file() { return the_log_file; }

std::string host_name() {
    if (const char* node = std::getenv("SLURMD_NODENAME"))
        return node;
    std::array<char, 256> name{};
    if (gethostname(name.data(), name.size() - 1) != 0)
        return "unknown";
    return name.data();
}

}  // namespace cake
