// `cake batch`: many prompts from a file of jobs, answers to a file of results, by one or several replicas of the
// model.
#include "cli/job_run.h"

namespace cake {
namespace {

struct BatchOptions {
    std::string input, output;
    bool append_anyway = false, layers = false;

    void add_to(CLI::App& app) {
        app.add_option("--input", input, "jobs, a JSON object a line; - is standard input")
            ->type_name("FILE")
            ->required();
        app.add_option("--output", output,
                       "results, a JSON object a line; jobs that have one are passed over; - is "
                       "standard output")
            ->type_name("FILE")
            ->required();
        app.add_flag("--append-anyway", append_anyway, "also to results of another configuration");
        app.add_flag("--layers", layers, "what each layer kept, in each result");
    }
};

}  // namespace

ExitCode run_batch(CommandContext& context) {
    const StopSignals signals;
    CLI::App app("Many prompts from a file of jobs; goes on where it stopped.", "cake batch");
    ModelOptions options(app);
    BatchOptions batch;
    batch.add_to(app);
    JobRunFlags flags;
    flags.add_to(app);
    if (const auto over = parse_arguments(context, app))
        return *over;
    const RunConfig config = options.resolve(context);
    return run_jobs(context, {.command = "batch",
                              .config = config,
                              .signals = signals,
                              .flags = flags,
                              .report = options.report(),
                              .quiet = options.quiet(),
                              .layers = batch.layers,
                              .read = [&](const ModelConfig& model, const std::string& digest,
                                          std::optional<ResultWriter>& results,
                                          std::optional<Tokenizer>& tokenizer) {
                                  results.emplace(batch.output, digest, batch.append_anyway);
                                  return read_jobs(batch.input, config, model, *results, tokenizer);
                              }});
}

}  // namespace cake
