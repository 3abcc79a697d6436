// Runs the built program, as a user does, and says what came out.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace cake::test {

struct ProgramResult {
    int exit_code = -1;  // 128 + the signal that ended it
    bool timed_out = false;
    std::string out, err;
};

struct ProgramOptions {
    std::string input = {};  // to stdin
    // Set or replaced; without a value taken away.
    std::vector<std::pair<std::string, std::optional<std::string>>> environment = {};
    double timeout_s = 60;  // then it and what it started are killed
    // Sent to it one after another: as soon as the condition holds (asked with the seconds so far).
    std::vector<std::pair<std::function<bool(double)>, int>> signals = {};
};

// Any program.
ProgramResult run_command(std::vector<std::string> command, const ProgramOptions& options = {});

// The program whose path stands in the environment as CAKE_PROGRAM (ctest sets it).
ProgramResult run_program(const std::vector<std::string>& arguments,
                          const ProgramOptions& options = {});

// The same under `mpirun -n RANKS`, whose path stands in the environment as CAKE_MPIEXEC. stdin
// goes to rank 0.
ProgramResult run_program_on_ranks(int ranks, const std::vector<std::string>& arguments,
                                   const ProgramOptions& options = {});

}  // namespace cake::test
