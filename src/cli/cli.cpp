#include "cli/cli.h"

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "base/nearest.h"
#include "cli/alike.h"

namespace cake {
namespace {

constexpr Command command_table[] = {
    {"generate", "one prompt in, text out", run_generate},
    {"batch", "many prompts from a file of jobs; goes on where it stopped", run_batch},
    {"bench", "speed and memory: policies, cache sizes, prompts, batches", run_bench},
    {"plan", "bytes per rank of a run, before anything is loaded", run_plan},
    {"inspect", "what is in a model file or folder: sizes, types, tokenizer", run_inspect},
    {"eval", "what policies' answers are worth: LongBench, needles, fidelity", run_eval},
    {"score", "LongBench scores of answers that lie in files", run_score},
    {"diff", "compares two reports: budgets, kept tokens, output tokens", run_diff},
    {"doctor", "ranks, hosts, devices, links: is all as a job needs it", run_doctor},
    {"version", "this build, the libraries in use, the devices seen", run_version},
};

std::string overview() {
    std::string text =
        "cake: LLM inference on several processes, with CAKE eviction of the KV cache\n\n"
        "usage: cake COMMAND [options]\n"
        "       mpirun -n RANKS cake COMMAND [options]\n\n";
    return text + list_of(commands()) + "\n`cake COMMAND --help` lists the options of a command.\n";
}

const Command& command_named(const std::string& name) {
    if (const Command* command = find_command(commands(), name))
        return *command;
    throw usage_error("there is no command '{}'; the nearest one is '{}', `cake help` lists all",
                      name, nearest_command(commands(), name));
}

}  // namespace

std::span<const Command> commands() { return command_table; }

std::string list_of(std::span<const Command> commands) {
    std::string text;
    for (const Command& command : commands)
        text += fmt::format("  {:<10} {}\n", command.name, command.help);
    return text;
}

const Command* find_command(std::span<const Command> commands, std::string_view name) {
    const auto found = std::ranges::find(commands, name, &Command::name);
    return found == commands.end() ? nullptr : &*found;
}

std::string nearest_command(std::span<const Command> commands, const std::string& name) {
    std::vector<std::string> names;
    for (const Command& command : commands)
        names.emplace_back(command.name);
    return nearest(name, names);
}

ExitCode run_command_line(World& world, std::vector<std::string> args) {
    CommandContext context{world, {}};
    check_same_program(world, args.empty() ? "" : args[0]);
    if (args.empty()) {
        world.agree([] { throw usage_error("a command is missing; `cake help` lists all"); });
    }
    const bool asks_for_help = args[0] == "help" || args[0] == "--help" || args[0] == "-h";
    if (asks_for_help && args.size() == 1) {
        print_once(context, overview());
        return ExitCode::Done;
    }
    if (args[0] == "--version")
        args[0] = "version";
    if (asks_for_help)
        args = {args[1], "--help"};  // cake help COMMAND

    const Command* command = nullptr;
    world.agree([&] { command = &command_named(args[0]); });
    context.args.assign(args.begin() + 1, args.end());
    return command->run(context);
}

std::optional<ExitCode> parse_arguments(CommandContext& context, CLI::App& app) {
    std::optional<ExitCode> over;
    context.world.agree([&] {
        std::vector<std::string> reversed(context.args.rbegin(),
                                          context.args.rend());  // CLI11 takes them from the end
        try {
            app.parse(std::move(reversed));
        } catch (const CLI::CallForHelp&) {
            print_once(context, app.help());
            over = ExitCode::Done;
        } catch (const CLI::ParseError& error) {
            throw usage_error("{}; `{} --help` lists the options", error.what(), app.get_name());
        }
    });
    return over;
}

void print_once(const CommandContext& context, const std::string& text) {
    if (context.world.rank() != 0)
        return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    flush_output();
}

void flush_output() {
    if (std::fflush(stdout) != 0 || std::ferror(stdout))
        throw Error("standard output could not be written; is the disk full?");
}

void check_writable(const std::string& path) {
    if (!path.empty() && !std::ofstream(path, std::ios::app))
        throw usage_error("{}: cannot be written; does the folder exist?", path);
}

void write_json(const std::string& path, const nlohmann::json& json) {
    std::ofstream out(path);
    out << json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    if (!out.flush())
        throw Error(fmt::format("{}: could not be written; is the disk full?", path));
}

}  // namespace cake
