#include "base/stop_signals.h"

#include <atomic>
#include <csignal>
#include <unistd.h>

#include "base/error.h"

namespace cake {
namespace {

constexpr int kSignals[] = {SIGTERM, SIGUSR1};

// A handler gets nothing but the signal's number, so it must leave its note where it can find it by itself.
std::atomic<int> signals_came{0};
static_assert(std::atomic<int>::is_always_lock_free);

void note(int) {
    if (++signals_came > 1)
        _exit(int(ExitCode::Stopped));
}

}  // namespace

StopSignals::StopSignals() {
    signals_came = 0;
    struct sigaction action {};
    action.sa_handler = note;
    action.sa_flags = SA_RESTART;
    for (int signal : kSignals)
        sigaction(signal, &action, nullptr);
}

bool StopSignals::came() { return signals_came > 0; }

}  // namespace cake
