#include "base/exit_timer.h"

#include <atomic>
#include <csignal>
#include <unistd.h>

namespace cake {
namespace {

// A handler gets nothing but the signal's number.
std::atomic<int> code{1};
static_assert(std::atomic<int>::is_always_lock_free);

void end(int) { _exit(code); }

}  // namespace

void exit_after(int seconds, int exit_code) {
    code = exit_code;
    struct sigaction action {};
    action.sa_handler = end;
    sigaction(SIGALRM, &action, nullptr);
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, nullptr);
    alarm(unsigned(seconds));
}

}  // namespace cake
