// Messages for people, on stderr, through spdlog's default logger: spdlog::info(...), warn, error, debug.
#pragma once

#include <string>

namespace cake {

// Sets up the default logger. Rank 0 speaks plainly, "cake: message", with "warning:" or "error:" before the message at
// those levels. The other ranks speak from level error on, as "[rank N host] cake: error: message", so that what all
// ranks would say is said once. `level`: trace, debug, info, warning, error or off, else an Error of usage.
// `quiet`: rank 0 too keeps what is less than a warning to itself.
// `folder`, where it is not empty: each rank writes what it says, and what it keeps to itself from debug on, to the end
// of rank-N.log there as well, each line with time, rank, host and level, and at once, so that it outlives a crash. The
// folder is made; an Error of usage where it cannot be written.
void init_log(int rank, const std::string& level, bool quiet, const std::string& folder = "");

// The file of this rank's log, for those who may not call the logger (crash handlers); -1: there is none.
int log_file();

// This machine, as messages and reports name it: Slurm's name of the node where there is one.
std::string host_name();

}  // namespace cake
