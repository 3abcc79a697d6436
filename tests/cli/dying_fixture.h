// A rank of `cake batch` that dies or hangs in some way, at some part of the run.
#pragma once

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <unistd.h>

#include <gmock/gmock.h>

#include "base/log.h"
#include "base/timer.h"
#include "cli/batch_fixture.h"

namespace cake::test {

struct WayToDie {
    const char* how;
    int exit_code;
    const char* why;  // in the last line
};
inline void PrintTo(const WayToDie& way, std::ostream* out) { *out << way.how; }

inline constexpr WayToDie kWaysToDie[] = {
    {"throw", 1, "a planted fault"},
    {"abort", 134, "abort (SIGABRT)"},
    {"segv", 139, "segmentation fault (SIGSEGV)"},
    {"kill", 137, "died without a word: it was killed"},
    {"oom", 1, "out of memory"},
    {"exit", 3, "something called exit() in mid-run"},
    {"hang", 1, "none of them got anything done"},
};

inline const WayToDie& way_to_die(const std::string& how) {
    for (const WayToDie& way : kWaysToDie)
        if (way.how == how)
            return way;
    throw std::out_of_range(how);
}

class DyingRank : public BatchFixture {
protected:
    static constexpr double kDeadline_s = 1;
    static constexpr double kSoon_s = 5;

    void SetUp() override {
        if (std::string(CAKE_SANITIZE) != "")
            GTEST_SKIP() << "sanitizers have signals and memory to themselves";
        BatchFixture::SetUp();
        write_jobs(4, 20);
    }

    // The last rank, or the one that writes.
    void expect_end(const WayToDie& way, const std::string& part, int ranks) {
        const int who = part == "write" ? 0 : ranks - 1;
        const std::string mark = std::to_string(getpid()) + folder.filename().string();
        const std::set<std::string> shared_before = shared_files();
        const Timer timer;
        const ProgramResult r = run_program_on_ranks(
            ranks,
            // Without warnings: mpirun may pass one rank's lines on after another's later ones.
            batch("out.jsonl", {"--threads", "1", "--log-level", "error", "--set",
                                "comm.timeout_s=" + std::to_string(int(kDeadline_s))}),
            {.environment = {{"CAKE_FAULT",
                              "rank=" + std::to_string(who) + " part=" + part + " how=" + way.how},
                             {"CAKE_FAULT_MARK", file("struck")},
                             {"CAKE_TEST_MARK", mark}}});
        const bool hangs = std::string(way.how) == "hang";
        const double deadline_s = hangs ? kDeadline_s * (part == "load" ? 4 : 1) : 0;
        while (has_processes(mark) && timer.seconds() < 30)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        const double seconds = timer.seconds();
        const auto struck = std::filesystem::last_write_time(file("struck"));
        const std::chrono::duration<double> since = decltype(struck)::clock::now() - struck;
        EXPECT_LT(since.count(), deadline_s + kSoon_s);
        EXPECT_EQ(r.exit_code, way.exit_code) << r.err;

        const std::string last = last_line(r.err);
        const std::string name = "rank " + std::to_string(who) + " on " + host_name() + ", ";
        EXPECT_THAT(last, testing::HasSubstr(name + (hangs ? "in " : "") + part)) << r.err;
        EXPECT_THAT(last, testing::HasSubstr(way.why)) << r.err;
        EXPECT_EQ(last.find(" of ranks 0, 1") != std::string::npos, hangs) << last;
        for (const std::string& left : shared_files()) {
            const Timer since;  // another run may be ending right now
            while (is_left(left, shared_before) && since.seconds() < kSoon_s)
                std::this_thread::sleep_for(std::chrono::milliseconds(50));
            EXPECT_FALSE(is_left(left, shared_before)) << left;
        }
        note(way, part, ranks, seconds, deadline_s, r.exit_code);
        std::filesystem::remove(file("out.jsonl"));
    }

private:
    // Of the program: mpirun's library of events may remark on pipes that closed.
    static std::string last_line(const std::string& text) {
        std::istringstream lines(text);
        std::string last;
        for (std::string line; std::getline(lines, line);)
            if (!line.empty() && !line.starts_with("[warn] Epoll"))
                last = line;
        return last;
    }
    static std::string contents(const std::filesystem::path& path) {
        std::ifstream in(path, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    template <typename Is>
    static bool any_process(Is is) {
        std::error_code gone;
        for (const auto& entry : std::filesystem::directory_iterator("/proc", gone)) {
            const std::string number = entry.path().filename();
            if (number.find_first_not_of("0123456789") == std::string::npos && is(entry.path()))
                return true;
        }
        return false;
    }
    static bool has_processes(const std::string& mark) {
        return any_process([&](const std::filesystem::path& process) {
            return contents(process / "environ").find("CAKE_TEST_MARK=" + mark) !=
                   std::string::npos;
        });
    }
    static bool is_mapped(const std::string& file) {  // by another run
        return any_process([&](const std::filesystem::path& process) {
            return contents(process / "maps").find(file) != std::string::npos;
        });
    }
    static bool is_left(const std::string& file, const std::set<std::string>& before) {
        return !before.contains(file) && std::filesystem::exists(file) && !is_mapped(file);
    }
    static std::set<std::string> shared_files() {
        std::set<std::string> files;
        for (const auto& entry : std::filesystem::directory_iterator("/dev/shm"))
            files.insert(entry.path());
        return files;
    }
    // A row of the table in docs/launch.md.
    static void note(const WayToDie& way, const std::string& part, int ranks, double seconds,
                     double deadline_s, int exit_code) {
        if (const char* table = std::getenv("CAKE_DYING_TABLE"))
            std::ofstream(table, std::ios::app) << fmt::format(
                "{} {} {} {:.2f} {} {}\n", way.how, part, ranks, seconds, deadline_s, exit_code);
    }
};

}  // namespace cake::test
