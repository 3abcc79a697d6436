#include "cli/time_limit.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <regex>

#include <fmt/format.h>

namespace cake {
namespace {

// What squeue says of the time that a job has left: its first line, or nothing.
std::string ask_squeue(const std::string& job) {
    const std::string command =
        fmt::format("timeout 10 squeue --noheader --jobs={} --format=%L 2>/dev/null", job);
    FILE* pipe = popen(command.c_str(), "r");
    if (!pipe)
        return "";
    std::array<char, 64> line{};
    const bool said = std::fgets(line.data(), int(line.size()), pipe) != nullptr;
    pclose(pipe);
    const std::string text = said ? line.data() : "";
    return text.substr(0, text.find_last_not_of(" \n") + 1);
}

}  // namespace

std::optional<WallClock::time_point> slurm_job_end(std::string* unknown) {
    if (const char* end = std::getenv("SLURM_JOB_END_TIME"); end && std::atoll(end) > 0)
        return WallClock::time_point(std::chrono::seconds(std::atoll(end)));
    const char* job = std::getenv("SLURM_JOB_ID");
    std::string why = "this is no Slurm job";
    if (job && std::regex_match(job, std::regex("[0-9]+"))) {
        const std::string left = ask_squeue(job);
        if (const auto seconds = parse_slurm_time(left))
            return WallClock::now() + std::chrono::seconds(*seconds);
        why =
            left == "UNLIMITED" ? "" : "SLURM_JOB_END_TIME is not set, and squeue does not say it";
    }
    if (unknown)
        *unknown = why;
    return {};
}

std::optional<std::int64_t> parse_slurm_time(const std::string& text) {
    const std::regex form("(?:([0-9]{1,6})-)?(?:([0-9]{1,6}):)?([0-9]{1,6}):([0-9]{2})");
    std::smatch part;
    if (!std::regex_match(text, part, form))
        return {};
    std::array<std::int64_t, 4> value{};  // days, hours, minutes, seconds
    for (std::size_t i = 0; i < 4; ++i)
        if (part[i + 1].matched)
            value[i] = std::stoll(part[i + 1]);
    return ((value[0] * 24 + value[1]) * 60 + value[2]) * 60 + value[3];
}

}  // namespace cake
