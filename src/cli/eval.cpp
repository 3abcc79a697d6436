// `cake eval KIND`: what a policy's answers are worth.
#include "base/nearest.h"
#include "cli/cli.h"

namespace cake {
namespace {

constexpr Command kinds[] = {
    {"longbench", "answers to LongBench's tasks, and their scores", run_eval_longbench},
    {"needle", "facts that are found again in long texts", run_eval_needle},
    {"fidelity", "how far predictions are from those of the full cache", run_eval_fidelity},
};

std::string overview() {
    std::string text =
        "What the answers of policies are worth.\n\n"
        "usage: cake eval KIND [options]\n\n";
    for (const Command& kind : kinds)
        text += fmt::format("  {:<10} {}\n", kind.name, kind.help);
    return text + "\n`cake eval KIND --help` lists the options of a kind.\n";
}

const Command& find_kind(const std::vector<std::string>& args) {
    if (args.empty())
        throw usage_error("eval: of what kind? `cake eval --help` lists all");
    std::vector<std::string> names;
    for (const Command& kind : kinds) {
        if (kind.name == args[0])
            return kind;
        names.emplace_back(kind.name);
    }
    throw usage_error("eval: there is no kind '{}'; the nearest one is '{}'", args[0],
                      nearest(args[0], names));
}

}  // namespace

ExitCode run_eval(CommandContext& context) {
    if (!context.args.empty() && (context.args[0] == "--help" || context.args[0] == "-h")) {
        print_once(context, overview());
        return ExitCode::Done;
    }
    const Command* kind = nullptr;
    context.world.agree([&] { kind = &find_kind(context.args); });
    CommandContext of_kind{context.world, {context.args.begin() + 1, context.args.end()}};
    return kind->run(of_kind);
}

}  // namespace cake
