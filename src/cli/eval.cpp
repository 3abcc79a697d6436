// `cake eval KIND`: what a policy's answers are worth.
#include "cli/cli.h"

namespace cake {
namespace {

constexpr Command kinds[] = {
    {"longbench", "answers to LongBench's tasks, and their scores", run_eval_longbench},
    {"needle", "facts that are found again in long texts", run_eval_needle},
    {"fidelity", "how far predictions are from those of the full cache", run_eval_fidelity},
};

const Command& kind_named(const std::vector<std::string>& args) {
    if (args.empty())
        throw usage_error("eval: of what kind? `cake eval --help` lists all");
    if (const Command* kind = find_command(kinds, args[0]))
        return *kind;
    throw usage_error("eval: there is no kind '{}'; the nearest one is '{}'", args[0],
                      nearest_command(kinds, args[0]));
}

}  // namespace

ExitCode run_eval(CommandContext& context) {
    if (!context.args.empty() && (context.args[0] == "--help" || context.args[0] == "-h")) {
        print_once(
            context,
            "What the answers of policies are worth.\n\nusage: cake eval KIND [options]\n\n" +
                list_of(kinds) + "\n`cake eval KIND --help` lists the options of a kind.\n");
        return ExitCode::Done;
    }
    const Command* kind = nullptr;
    context.world.agree([&] { kind = &kind_named(context.args); });
    CommandContext of_kind{context.world, {context.args.begin() + 1, context.args.end()}};
    return kind->run(of_kind);
}

}  // namespace cake
