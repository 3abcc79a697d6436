// A progress bar for people who wait.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

namespace cake {

// One line on stderr that is drawn over itself, at most ten times a second. Only where stderr is a terminal, and only
// once the work has taken 2 s: what is quick or goes into a file leaves no trace. One bar at a time.
class Progress {
public:
    // `total`: units of work, 0 where unknown. `enabled` false: never shows (other ranks, --quiet).
    Progress(std::string what, std::int64_t total, bool enabled);
    // Draws to `out` whatever it is, by a clock in seconds: for tests.
    Progress(std::string what, std::int64_t total, std::FILE* out, std::function<double()> clock);
    ~Progress() { finish(); }
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    // `note` follows what is done.
    void update(std::int64_t done, const std::string& note = "");
    // Clears the line. Later updates draw nothing.
    void finish();

    // Some bar has the line now: a message must clear it first (base/log does).
    static bool is_shown();

private:
    std::string what_;
    std::int64_t total_;
    std::FILE* out_;  // null: never shows
    std::function<double()> clock_;
    double start_s_;
    double drawn_s_ = -1e9;
    bool shown_ = false;
};

// "prefill [#####.......]  41% 12/29, 0:07 left", after `elapsed_s` seconds; without what cannot be known.
std::string progress_line(const std::string& what, std::int64_t done, std::int64_t total,
                          double elapsed_s);

// "0:07", "1:02:07"
std::string duration(double seconds);

// Somebody watches: stderr is a terminal, or launch/mpirun.sh, which sees it, says so.
bool progress_is_watched();

}  // namespace cake
