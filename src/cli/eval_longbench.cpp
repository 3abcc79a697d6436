// `cake eval longbench`: a model's answers to LongBench under each policy, and their scores.
#include <algorithm>
#include <filesystem>

#include <spdlog/spdlog.h>

#include "cli/policy_runs.h"
#include "cli/prompt.h"
#include "cli/score.h"
#include "cli/session.h"
#include "eval/longbench_rows.h"

namespace cake {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr Flag kFlags[] = {
    {"--data", "eval.data", "DIR"},
    {"--policies", "eval.policies", "NAME,..."},
    {"--cache-sizes", "eval.cache_sizes", "C,..."},
    {"--part", "eval.part", "I/N"},
    {"--tasks", "eval.tasks", "NAME,..."},
    {"--limit", "eval.limit", "N"},
    {"--longest-prompt", "eval.longest_prompt", "N"},
    {"--whole-only", "eval.whole_only", nullptr},
    {"--single-bos", "eval.single_bos", nullptr},
};

LongBenchPrompting prompting_of(const RunConfig& config, const ModelConfig& model,
                                const Tokenizer& tokenizer) {
    LongBenchPrompting out;
    out.chat = chosen_template(config, tokenizer);
    out.longest =
        config.eval.longest_prompt > 0
            ? config.eval.longest_prompt
            : model_defaults(model, config.policy.cache_size.value_or(1024)).longest_prompt;
    out.single_bos = config.eval.single_bos;
    return out;
}

// Whether what goes through the chat template begins with two BOS, as the official script has it.
bool two_bos(const LongBenchPrompting& prompting, const Tokenizer& tokenizer) {
    LongBenchTask any;
    any.prompt = "any";
    const auto ids = longbench_prompt(any, {}, prompting, tokenizer);
    return ids.size() > 1 && ids[0] == tokenizer.bos() && ids[1] == tokenizer.bos();
}

// How prompts are made, whichever tasks and rows are asked: what decides an answer beside the configuration, and what a
// reader of the scores has to know.
json facts_of(const RunConfig& config, const LongBenchPrompting& prompting, bool buckets,
              const Tokenizer& tokenizer) {
    json out{{"data", fs::weakly_canonical(config.eval.data).string()},
             {"chat", prompting.chat},
             {"longest_prompt", prompting.longest},
             {"two_bos", two_bos(prompting, tokenizer)}};
    if (buckets)
        out["e"] = true;  // other rows under the same ids
    return out;
}

std::vector<BatchJob> jobs_of(const std::vector<LongBenchQuestion>& questions,
                              const RunConfig& config, const ModelConfig& model,
                              const Tokenizer& tokenizer) {
    std::vector<BatchJob> jobs;
    for (const LongBenchQuestion& question : questions) {
        BatchJob job;
        Request& r = job.request;
        r.id = question.id;
        r.prompt = question.prompt;
        r.sampling = sampling_of(config);
        r.end_of_sequence = ends_of(*question.task, tokenizer);
        r.first_is_answer = question.task->stop_at_newline;
        job.stop = config.generation.stop;
        try {
            r.max_new_tokens =
                fit_context(model, int(r.prompt.size()), question.task->max_new_tokens);
        } catch (const Error& error) {
            job.error = error.what();
        }
        jobs.push_back(std::move(job));
    }
    return jobs;
}

// The official files of a policy, and how their prompts were made.
void write_answers(const std::string& folder, const json& facts,
                   const std::vector<LongBenchQuestion>& questions, const Answers& answers) {
    for (const TaskAnswers& task : official_files(questions, answers)) {
        if (task.missing > 0)
            spdlog::warn("{}: {} rows of {} have no answer yet: {}.jsonl is not written", folder,
                         task.missing, task.task, task.task);
        else
            write_whole(folder + "/" + task.task + ".jsonl", task.text);
    }
    write_whole(folder + "/prompts.json", facts.dump(1) + "\n");
}

// Scores of all policies whose answers lie in `folder`; empty where no task is whole.
std::string score(const std::string& folder, const std::vector<ListedPolicy>& policies,
                  bool buckets) {
    const bool any = std::ranges::any_of(policies, [&](const ListedPolicy& policy) {
        return std::ranges::any_of(longbench_tasks(), [&](const LongBenchTask& task) {
            return fs::exists(fs::path(folder_of(folder, policy)) / (task.name + ".jsonl"));
        });
    });
    if (!any)
        return {};
    const std::vector<FolderScores> scores = score_folders(folder);
    write_results(scores, buckets);
    std::string table = markdown_table(scores, buckets);
    write_whole(folder + "/table.md", table);
    if (!same_rows(scores))
        spdlog::warn(
            "policies have different numbers of answers to a task: their scores are of different "
            "rows and cannot be compared");
    return table;
}

}  // namespace

ExitCode run_eval_longbench(CommandContext& context) {
    const StopSignals signals;
    CLI::App app(
        "Answers the rows of LongBench's English tasks under each policy, as the official script "
        "asks them, and scores the answers. Goes on where it stopped.",
        "cake eval longbench");
    ModelOptions options(app, kFlags);
    JobRunFlags flags;
    flags.add_to(app);
    std::string output;
    bool buckets = false;
    app.add_option("--output", output,
                   "a folder; in it one per policy, with answers, scores and what is not done yet")
        ->type_name("DIR")
        ->required();
    app.add_flag("--e", buckets, "LongBench-E: TASK_e.jsonl, scores by length of context");
    if (const auto over = parse_arguments(context, app))
        return *over;
    const RunConfig config = options.resolve(context);
    World& world = context.world;
    const bool first = world.rank() == 0;

    world.status().at(first ? RunPart::Input : RunPart::Start);
    ModelConfig model;
    PolicyRuns runs{"eval longbench", config, options, flags, signals, {}};
    std::optional<Tokenizer> tokenizer;  // rank 0's, like the questions
    std::vector<LongBenchQuestion> questions;
    world.agree([&] {
        model = read_model(config);
        runs.policies = policies_to_run(config, model, options, flags);
        if (!first)
            return;
        const auto files = longbench_files(config.eval, buckets);
        tokenizer = load_tokenizer(config.model.path);
        check_vocabulary(*tokenizer, model.vocab, config.model.path);
        const LongBenchPrompting prompting = prompting_of(config, model, *tokenizer);
        questions =
            longbench_questions(files, config.eval, prompting, model.max_positions, *tokenizer);
        runs.decisive = facts_of(config, prompting, buckets, *tokenizer);
    });
    runs.folder = output;
    runs.jobs = [&](const RunConfig& one) { return jobs_of(questions, one, model, *tokenizer); };
    runs.answered = [&](const ListedPolicy& policy, const Answers& answers) {
        write_answers(folder_of(output, policy), runs.decisive, questions, answers);
    };
    const ExitCode code = run_policies(context, runs);
    if (is_part(context, config))
        return code;
    std::string table;
    world.agree([&] {
        if (first)
            table = score(output, runs.policies, buckets);
    });
    print_once(context, table);
    return code;
}

}  // namespace cake
