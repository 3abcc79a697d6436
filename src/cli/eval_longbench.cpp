// `cake eval longbench`: a model's answers to LongBench under each policy, and their scores.
#include <algorithm>
#include <filesystem>

#include <spdlog/spdlog.h>

#include "base/hash.h"
#include "cli/policy_runs.h"
#include "cli/prompt.h"
#include "cli/score.h"
#include "cli/session.h"
#include "eval/longbench_rows.h"
#include "io/json_file.h"

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
json facts_of(const RunConfig& config, const LongBenchPrompting& prompting,
              const Tokenizer& tokenizer) {
    return {{"model", fs::weakly_canonical(config.model.path).string()},
            {"chat", prompting.chat},
            {"longest_prompt", prompting.longest},
            {"two_bos", two_bos(prompting, tokenizer)}};
}

// A digest of each task's rows.
json digests_of(const std::vector<LongBenchFile>& files) {
    json out = json::object();
    for (const LongBenchFile& file : files)
        out[file.task->name] = hex64(fnv1a(read_text_file(file.path)));
    return out;
}

constexpr const char* kPrompts = "prompts.json";

// Answers of all policies in `folder` are to the same prompts, or its table would compare what cannot be compared. Usage error
// where `prompts`, facts and digests of rows, are others than those of a policy that is there.
void check_same_prompts(const std::string& folder, const json& prompts) {
    if (!fs::is_directory(folder))
        return;
    for (const auto& entry : fs::directory_iterator(folder)) {
        const std::string path = (entry.path() / kPrompts).string();
        if (!fs::exists(path))
            continue;
        const json there = read_json_file(path);
        for (const auto& [key, value] : prompts.items())
            if (key != "rows" && there.value(key, json()) != value)
                throw usage_error("{}: {} was {} there and is {} now: name another --output", path,
                                  key, there.value(key, json()).dump(), value.dump());
        const json rows = there.value("rows", json::object());
        for (const auto& [task, digest] : prompts["rows"].items())
            if (rows.value(task, digest) != digest)
                throw usage_error(
                    "{}: the rows of {} were others than those in --data now: name another "
                    "--output",
                    path, task);
    }
}

// Tasks that were asked before stay in it.
void note_prompts(const std::string& folder, const json& prompts) {
    const std::string path = folder + "/" + kPrompts;
    json all = prompts;
    if (fs::exists(path)) {
        all["rows"] = read_json_file(path).value("rows", json::object());
        all["rows"].update(prompts["rows"]);
    }
    write_whole(path, all.dump(1) + "\n");
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

// The official files of a policy. One of fewer rows, of a start before, goes where some have no answer now, with its score.
void write_answers(const std::string& folder, const std::vector<LongBenchQuestion>& questions,
                   const Answers& answers) {
    for (const TaskAnswers& task : official_files(questions, answers)) {
        const std::string path = folder + "/" + task.task + ".jsonl";
        if (task.missing == 0) {
            write_whole(path, task.text);
            continue;
        }
        spdlog::warn("{}: {} rows of {} have no answer yet: {}.jsonl is not written", folder,
                     task.missing, task.task, task.task);
        if (fs::remove(path))
            fs::remove(folder + "/result.json");
    }
}

// Scores of all policies whose answers lie in `folder`; empty where no task is whole.
std::string score(const std::string& folder, bool buckets) {
    const std::vector<FolderScores> scores = score_subfolders(folder);
    if (scores.empty())
        return {};
    write_results(scores, buckets);
    std::string table = markdown_table(scores, buckets);
    write_whole(folder + "/table.md", table);
    if (!same_rows(scores))
        spdlog::warn(
            "policies have answered different rows of a task: their scores cannot be compared");
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
    json prompts;  // how they were made
    world.agree([&] {
        model = read_model(config);
        runs.policies = policies_to_run(config, model, options, flags);
        if (!first)
            return;
        const auto files = longbench_files(config.eval, buckets);
        tokenizer = load_tokenizer(config.model.path);
        check_vocabulary(*tokenizer, model.vocab, config.model.path);
        const LongBenchPrompting prompting = prompting_of(config, model, *tokenizer);
        runs.decisive = facts_of(config, prompting, *tokenizer);
        prompts = runs.decisive;
        prompts["rows"] = digests_of(files);
        check_same_prompts(output, prompts);
        questions = longbench_questions(files, config.eval, prompting, model.max_positions, buckets,
                                        *tokenizer);
    });
    runs.folder = output;
    runs.jobs = [&](const ListedPolicy& policy, const RunConfig& one) {
        note_prompts(folder_of(output, policy), prompts);
        return jobs_of(questions, one, model, *tokenizer);
    };
    runs.answered = [&](const ListedPolicy& policy, const Answers& answers) {
        write_answers(folder_of(output, policy), questions, answers);
    };
    const ExitCode code = run_policies(context, runs);
    if (code == ExitCode::Stopped || is_part(context, config))
        return code;
    std::string table;
    world.agree([&] {
        if (first)
            table = score(output, buckets);
    });
    print_once(context, table);
    return code;
}

}  // namespace cake
