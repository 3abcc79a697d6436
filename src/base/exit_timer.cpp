#include "base/exit_timer.h"

#include <atomic>
#include <csignal>
#include <cstring>
#include <unistd.h>

namespace cake {
namespace {

// A handler gets nothing but the signal's number.
std::atomic<int> code{1};
std::atomic<const char*> reason{""};
static_assert(std::atomic<int>::is_always_lock_free &&
              std::atomic<const char*>::is_always_lock_free);

void end(int) {
    [[maybe_unused]] const ssize_t written = write(2, reason, std::strlen(reason));
    _exit(code);
}

}  // namespace

void exit_after(int seconds, int exit_code, const char* why) {
    code = exit_code;
    reason = why;
    struct sigaction action {};
    action.sa_handler = end;
    sigaction(SIGALRM, &action, nullptr);
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, nullptr);
    alarm(unsigned(seconds));
}

void cancel_exit() { alarm(0); }

}  // namespace cake
