// Starts the world of ranks, runs the command, turns what went wrong into a message and an exit
// code.
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <unistd.h>

#include <spdlog/spdlog.h>

#include "base/crash_handler.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/cli.h"
#include "comm/world.h"

namespace {

using namespace cake;

// Between two loops OpenMP's threads wait for work. If they spin for long, ranks that share cores collapse (0.1 GFLOP/s
// instead of 70 were seen); if they sleep at once, waking them takes longer than most loops of a decode step (68 tokens/s
// instead of 166). So they spin for some tens of microseconds. The runtime reads these variables before main() does
// anything, so the program sets them and starts itself again, once.
void make_openmp_wait_briefly(char** argv) {
    const char* policy = std::getenv("OMP_WAIT_POLICY");
    const bool asleep = !policy || std::string_view(policy) == "passive";
    if (!asleep || std::getenv("GOMP_SPINCOUNT"))
        return;  // somebody has decided, or it is done
    if (setenv("OMP_WAIT_POLICY", "passive", 1) != 0 || setenv("GOMP_SPINCOUNT", "500", 1) != 0)
        return;
    char program[4096];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
    if (length <= 0)
        return;
    program[length] = '\0';
    execv(program, argv);  // returns only where it failed: then the program runs as it is
}

int run(World& world, int argc, char** argv) {
    const CrashHandler handler(world.status());
    try {
        init_log(world.rank(), "info", false);
        const ExitCode code = run_command_line(world, {argv + 1, argv + argc});
        spdlog::debug("ends with exit code {}", int(code));
        return int(code);
    } catch (...) {
        const Failure failure = current_failure();
        spdlog::debug("ends with exit code {}: {}", int(failure.code), failure.message);
        if (world.size() == 1 || world.failed_together()) {
            if (world.rank() == 0)
                fmt::print(stderr, "cake: error: {}\n", failure.message);
            return int(failure.code);
        }
        // The others wait for this rank in some collective, and would for ever.
        world.status().last_word(int(failure.code), failure.message);
        world.abort(int(failure.code));
    }
}

}  // namespace

int main(int argc, char** argv) {
    make_openmp_wait_briefly(argv);
    try {
        World world(argc, argv);
        return run(world, argc, argv);
    } catch (...) {
        const Failure failure = current_failure();
        if (!failure.message.empty())  // else another process says it (World::World)
            fmt::print(stderr, "cake: error: {}\n", failure.message);
        return int(failure.code);
    }
}
