// When Slurm ends the job that this process belongs to.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace cake {

using WallClock = std::chrono::system_clock;

// By SLURM_JOB_END_TIME; older versions of Slurm do not set it, then by squeue, asked once. Nothing: no Slurm job, one
// without a limit, or nobody says (`unknown`, where it is not null, has the reason).
std::optional<WallClock::time_point> slurm_job_end(std::string* unknown = nullptr);

// Seconds in a time as squeue prints it: "1-02:03:04", "2:03:04", "3:04". Nothing: "UNLIMITED", "INVALID", or no time.
std::optional<std::int64_t> parse_slurm_time(const std::string& text);

}  // namespace cake
