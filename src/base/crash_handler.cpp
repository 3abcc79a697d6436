#include "base/crash_handler.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <execinfo.h>
#include <iterator>
#include <string_view>
#include <sys/mman.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/error.h"
#include "base/exit_timer.h"
#include "base/log.h"

namespace cake {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
constexpr std::size_t kStackBytes = 64 << 10;  // of the handler: the thread's own may be used up
constexpr int kFrames = 16;

// Handlers get no argument of ours.
std::atomic<RankStatus*> the_rank{nullptr};
std::atomic<int> crashes{0};
std::array<char, 512> reason{};  // of std::terminate

const char* words(int signal) {
    switch (signal) {
        case SIGSEGV: return "segmentation fault (SIGSEGV)";
        case SIGBUS:
            return "bus error (SIGBUS): a mapped file that was cut short, or no room in /dev/shm";
        case SIGFPE: return "arithmetic error (SIGFPE)";
        case SIGILL: return "illegal instruction (SIGILL): was this built for another processor?";
        default: return "abort (SIGABRT)";
    }
}

// No allocation: the heap may be what broke.
template <typename... Args>
void print(fmt::format_string<Args...> format, Args&&... args) {
    std::array<char, 1024> line;
    const auto end =
        fmt::format_to_n(line.data(), line.size(), format, std::forward<Args>(args)...);
    for (int file : {2, log_file()}) {
        [[maybe_unused]] const ssize_t written =
            write(file, line.data(), std::min(end.size, line.size()));
    }
}

void print_last_line(const RankStatus& status, std::string_view why) {
    const Whereabouts at = status.read();
    if (at.layer < 0)
        print("cake: error: rank {} on {}, {}: {}\n", status.rank(), status.host(), name(at.part),
              why);
    else
        print("cake: error: rank {} on {}, {}, layer {}: {}\n", status.rank(), status.host(),
              name(at.part), at.layer, why);
}

void on_signal(int signal, siginfo_t*, void*) {
    if (++crashes > 1) {  // another thread crashed as well, or this code did: the first may finish
        sleep(1);
        _exit(128 + signal);
    }
    exit_after(2, 128 + signal);  // looking up names takes a lock
    RankStatus* status = the_rank;
    if (status && status->claim_last_word(128 + signal)) {
        std::array<void*, kFrames + 2> frames;  // two of them are the handler's
        const int n = backtrace(frames.data(), int(frames.size()));
        for (int file : {2, log_file()})
            backtrace_symbols_fd(frames.data() + std::min(n, 2), std::max(n - 2, 0), file);
        print_last_line(*status, reason[0] ? reason.data() : words(signal));
    }
    std::signal(signal, SIG_DFL);
    raise(signal);
}

[[noreturn]] void on_terminate() {
    if (std::current_exception())
        fmt::format_to_n(reason.data(), reason.size() - 1, "an exception that nothing caught: {}",
                         current_failure().message);
    std::abort();
}

void on_exit_call(int exit_code, void*) {
    RankStatus* status = the_rank;
    if (!status)
        return;  // in good order
    const int code = exit_code ? exit_code : int(ExitCode::Failed);
    if (status->claim_last_word(code))
        print_last_line(*status, "something called exit() in mid-run");
    exit_after(2, code);
    std::fflush(nullptr);
    _exit(code);
}

}  // namespace

CrashHandler::CrashHandler(RankStatus& status) {
    the_rank = &status;
    on_exit(on_exit_call, nullptr);
    if (kSanitized)
        return;
    void* frame = nullptr;
    backtrace(&frame, 1);  // loads what it needs now
    std::set_terminate(on_terminate);
    stack_t stack{};
    stack.ss_sp =
        mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack.ss_size = kStackBytes;
    const bool has_stack = stack.ss_sp != MAP_FAILED && sigaltstack(&stack, nullptr) == 0;
    struct sigaction action {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | (has_stack ? SA_ONSTACK : 0);
    for (int signal : kSignals)
        sigaction(signal, &action, nullptr);
}

CrashHandler::~CrashHandler() { the_rank = nullptr; }

}  // namespace cake
