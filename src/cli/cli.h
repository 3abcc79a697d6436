// The commands of the program. One file each; a new one is a function here and a row in cli.cpp.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "comm/world.h"

namespace cake {

struct CommandContext {
    World& world;
    std::vector<std::string> args;  // what follows the command's name
};

struct Command {
    std::string_view name;
    std::string_view help;  // one line
    ExitCode (*run)(CommandContext&);
};

std::span<const Command> commands();

// "  NAME  help", a line each.
std::string list_of(std::span<const Command> commands);
// Nothing where there is no such command.
const Command* find_command(std::span<const Command> commands, std::string_view name);
// The one whose name is most like it.
std::string nearest_command(std::span<const Command> commands, const std::string& name);

// Runs the command that the program's arguments (without its own name) ask for; `help`, `COMMAND
// --help`. Usage errors: no such command (names the nearest).
ExitCode run_command_line(World& world, std::vector<std::string> args);

// Parses context.args on every rank. An exit code: the command is over (help was printed). Usage
// errors name what was not understood; they are shared by all ranks.
std::optional<ExitCode> parse_arguments(CommandContext& context, CLI::App& app);

// Throws Error where standard output took not all that was printed (a full disk, a closed pipe).
void flush_output();
// Prints on rank 0 alone.
void print_once(const CommandContext& context, const std::string& text);

// Files are tried before the work, so that it is not lost: a usage error where `path` (empty: none)
// cannot be written.
void check_writable(const std::string& path);
void write_json(const std::string& path, const nlohmann::json& json);

ExitCode run_batch(CommandContext& context);
ExitCode run_bench(CommandContext& context);
ExitCode run_diff(CommandContext& context);
ExitCode run_doctor(CommandContext& context);
ExitCode run_eval(CommandContext& context);
ExitCode run_eval_fidelity(CommandContext& context);
ExitCode run_eval_longbench(CommandContext& context);
ExitCode run_eval_needle(CommandContext& context);
ExitCode run_generate(CommandContext& context);
ExitCode run_inspect(CommandContext& context);
ExitCode run_plan(CommandContext& context);
ExitCode run_score(CommandContext& context);
ExitCode run_version(CommandContext& context);

}  // namespace cake
