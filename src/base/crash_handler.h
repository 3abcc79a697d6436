// A process that ends in mid-run says why, whatever the way.
#pragma once

#include "base/rank_status.h"

namespace cake {

// While it lives: SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT (std::terminate too) print a short stack, then, as the last
// line, rank, host, place and reason; then the signal takes its course, so the exit code is 128 + the signal. exit() is no
// good end: it prints such a line too, and 0 becomes 1. Make one. Built with sanitizers, signals are left to them.
class CrashHandler {
public:
    explicit CrashHandler(RankStatus& status);
    ~CrashHandler();
    CrashHandler(const CrashHandler&) = delete;
    CrashHandler& operator=(const CrashHandler&) = delete;
};

}  // namespace cake
