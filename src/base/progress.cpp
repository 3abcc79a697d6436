#include "base/progress.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "base/timer.h"

namespace cake {
namespace {

constexpr double kPatience_s = 2.0;
constexpr double kRedraw_s = 0.1;
constexpr int kBarWidth = 24;

std::atomic<bool> a_bar_is_shown = false;  // the terminal is one for the whole process

}  // namespace

std::string duration(double seconds) {
    const auto s = std::int64_t(seconds + 0.5);
    if (s < 3600)
        return fmt::format("{}:{:02}", s / 60, s % 60);
    return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

// Under mpirun a rank's stderr is a pipe.
bool progress_is_watched() { return isatty(STDERR_FILENO) || std::getenv("CAKE_PROGRESS"); }

std::string progress_line(const std::string& what, std::int64_t done, std::int64_t total,
                          double elapsed_s) {
    if (total <= 0)
        return fmt::format("{} {}, {}", what, done, duration(elapsed_s));
    done = std::clamp(done, std::int64_t(0), total);
    const int filled = int(done * kBarWidth / total);
    const std::string bar = std::string(filled, '#') + std::string(kBarWidth - filled, '.');
    std::string line =
        fmt::format("{} [{}] {:3}% {}/{}", what, bar, done * 100 / total, done, total);
    if (done > 0)
        line += fmt::format(", {} left", duration(elapsed_s / double(done) * double(total - done)));
    return line;
}

Progress::Progress(std::string what, std::int64_t total, bool enabled)
    : Progress(std::move(what), total, enabled && progress_is_watched() ? stderr : nullptr,
               [timer = Timer()] { return timer.seconds(); }) {}

Progress::Progress(std::string what, std::int64_t total, std::FILE* out,
                   std::function<double()> clock)
    : what_(std::move(what)),
      total_(total),
      out_(out),
      clock_(std::move(clock)),
      start_s_(clock_()) {}

void Progress::update(std::int64_t done, const std::string& note) {
    if (!out_)
        return;
    const double now_s = clock_();
    if (now_s - start_s_ < kPatience_s || now_s - drawn_s_ < kRedraw_s)
        return;
    // \033[K erases to the end of the line, where the last drawing may have been longer.
    fmt::print(out_, "\r{}{}\033[K", progress_line(what_, done, total_, now_s - start_s_), note);
    std::fflush(out_);
    drawn_s_ = now_s;
    shown_ = true;
    a_bar_is_shown = true;
}

void Progress::finish() {
    if (shown_) {
        std::fputs("\r\033[K", out_);
        std::fflush(out_);
        a_bar_is_shown = false;
    }
    shown_ = false;
    out_ = nullptr;
}

bool Progress::is_shown() { return a_bar_is_shown; }

}  // namespace cake
