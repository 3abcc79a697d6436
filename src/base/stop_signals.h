// SIGTERM and SIGUSR1: the wish that a long job ends soon and in good order.
#pragma once

#include <csignal>

namespace cake {

// While it lives, the first of these signals is noted, and the second ends the process at once with exit code 75. One
// at a time.
class StopSignals {
public:
    StopSignals();
    ~StopSignals();
    StopSignals(const StopSignals&) = delete;
    StopSignals& operator=(const StopSignals&) = delete;

    bool came() const;

private:
    struct sigaction before_[2];
};

}  // namespace cake
