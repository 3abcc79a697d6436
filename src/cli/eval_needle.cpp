// `cake eval needle`: facts that a policy's answers find again in long texts.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>

#include <spdlog/spdlog.h>
#include <stdlib.h>

#include "base/hash.h"
#include "cli/job_run.h"
#include "cli/prompt.h"
#include "cli/session.h"
#include "eval/needle_scores.h"
#include "eval/row_files.h"
#include "policy/policy_list.h"

namespace cake {
namespace {

using nlohmann::json;

constexpr Flag kFlags[] = {
    {"--policies", "eval.policies", "NAME,..."},
    {"--cache-sizes", "eval.cache_sizes", "C,..."},
    {"--form", "eval.form", "NAME"},
    {"--text,--texts", "eval.texts", "FILE,..."},
    {"--lengths", "eval.lengths", "N,..."},
    {"--depths", "eval.depths", "PERCENT,..."},
    {"--needles", "eval.needles", "N,..."},
    {"--trials", "eval.trials", "N"},
    {"--data", "eval.data", "FILE"},
    {"--limit", "eval.limit", "N"},
    {"--part", "eval.part", "I/N"},
};

// The folder of the results: the user's, or one that is gone when the command ends.
class ResultFolder {
public:
    explicit ResultFolder(const std::string& given) : path_(given), scratch_(given.empty()) {
        std::error_code failed;
        if (scratch_) {
            path_ = (std::filesystem::temp_directory_path() / "cake-needle-XXXXXX").string();
            if (!::mkdtemp(path_.data()))
                throw usage_error("{}: a folder cannot be made there: give --output DIR", path_);
        } else if (std::filesystem::create_directories(path_, failed); failed) {
            throw usage_error("{}: the folder cannot be made: {}", path_, failed.message());
        }
    }
    ~ResultFolder() {
        std::error_code ignored;
        if (scratch_)
            std::filesystem::remove_all(path_, ignored);
    }
    ResultFolder(const ResultFolder&) = delete;
    ResultFolder& operator=(const ResultFolder&) = delete;

    std::string journal(const ListedPolicy& policy) const {
        const std::filesystem::path folder = std::filesystem::path(path_) / policy.label;
        std::filesystem::create_directories(folder);
        return (folder / "results.jsonl").string();
    }
    // Whole or not at all.
    void write(const std::string& name, const std::string& text) const {
        const std::string path = path_ + "/" + name, part = path + ".part";
        std::ofstream out(part, std::ios::binary);
        out << text;
        if (!out.flush())
            throw Error(fmt::format("{}: could not be written; is the disk full?", part));
        std::filesystem::rename(part, path);
    }

private:
    std::string path_;
    bool scratch_;
};

// What is asked, and a digest of what it was made from.
struct Questions {
    std::vector<NeedlePrompt> prompts;
    json made_from;
};

std::string read_haystack(const std::string& path) {
    std::string text = read_text_file(path);
    if (text.find('\0') != text.npos)
        throw usage_error("{}: holds bytes of value 0: is it a text file?", path);
    return text;
}

void check_study(const RunConfig::Eval& eval) {
    if (!eval.data.empty() && !(eval.texts.empty() && eval.lengths.empty()))
        throw usage_error(
            "--data holds whole prompts: leave out --text and --lengths, or leave out --data");
    if (eval.data.empty() && eval.lengths.empty())
        throw usage_error(
            "lengths are missing: give --lengths N,... (tokens of a prompt), or --data FILE");
    if (eval.data.empty() && eval.form == "text" && eval.texts.empty())
        throw usage_error(
            "a haystack is missing: give --text FILE, or --form kv, which needs none");
}

// `where` names the prompt.
void check_context(const RunConfig& config, const ModelConfig& model, int length,
                   const std::string& where) {
    const int new_tokens = config.generation.max_new_tokens;
    if (length > model.max_positions || fit_context(model, length, new_tokens) < new_tokens)
        throw usage_error(
            "{} has {} tokens: with an answer of {} that exceeds the model's context of {}; ask "
            "for a shorter one, or for fewer --max-new-tokens",
            where, length, new_tokens, model.max_positions);
}

Questions read_questions(const RunConfig& config, const ModelConfig& model) {
    const RunConfig::Eval& eval = config.eval;
    for (int length : eval.lengths)
        check_context(config, model, length, "a prompt of --lengths");
    std::vector<std::string> texts;
    if (eval.data.empty() && eval.form == "text")
        for (const std::string& path : eval.texts)
            texts.push_back(read_haystack(path));
    std::vector<RulerRow> rows;
    if (!eval.data.empty())
        rows = read_ruler_rows(eval.data);
    const std::size_t n_rows =
        eval.limit == 0 ? rows.size() : std::min(rows.size(), std::size_t(eval.limit));

    const Tokenizer tokenizer = load_tokenizer(config.model.path);
    check_vocabulary(tokenizer, model.vocab, config.model.path);
    const NeedleStudy study{chosen_template(config, tokenizer), std::uint64_t(eval.seed),
                            tokenizer};
    Questions out;
    out.made_from = {{"command", "eval needle"}, {"seed", eval.seed}};
    if (eval.data.empty())
        out.prompts = needle_prompts(needle_cases(eval), texts, study);
    for (const RulerRow& row : std::span(rows).first(n_rows)) {
        out.prompts.push_back(ruler_prompt(row, study));
        check_context(config, model, out.prompts.back().which.length,
                      fmt::format("{}:{}: the prompt", eval.data, row.line));
    }
    for (const std::string& text : texts)
        out.made_from["texts"].push_back(hex64(fnv1a(text)));
    if (!rows.empty())
        out.made_from["data"] = hex64(fnv1a(read_text_file(eval.data)));
    return out;
}

BatchJob job_of(const NeedlePrompt& prompt, const RunConfig& config) {
    BatchJob job;
    job.request.id = prompt.which.id();
    job.request.prompt = prompt.tokens;
    job.request.max_new_tokens = config.generation.max_new_tokens;
    job.request.sampling = sampling_of(config);
    job.stop = config.generation.stop;
    return job;
}

std::map<std::string, std::string> read_answers(const std::string& journal) {
    std::map<std::string, std::string> out;
    if (std::filesystem::file_size(journal) > 0)
        for_each_row(journal, [&](const json& row, std::int64_t) {
            if (row.contains("text"))
                out[text_of(row, "id")] = text_of(row, "text");
        });
    return out;
}

}  // namespace

ExitCode run_eval_needle(CommandContext& context) {
    const StopSignals signals;
    CLI::App app(
        "Hides facts in long texts and asks for them: the part that the answers of each policy "
        "hold, by length of the prompt and depth in it. Goes on where it stopped.",
        "cake eval needle");
    ModelOptions options(app, kFlags);
    JobRunFlags flags;
    flags.add_to(app);
    std::string output;
    app.add_option("--output", output,
                   "a folder for needle.csv and, in a folder per policy, answers; goes on there")
        ->type_name("DIR");
    if (const auto over = parse_arguments(context, app))
        return *over;
    const RunConfig config = options.resolve(context);
    World& world = context.world;
    const bool first = world.rank() == 0;

    world.status().at(first ? RunPart::Input : RunPart::Start);
    std::vector<ListedPolicy> policies;
    Questions questions;  // rank 0's, like the rest
    std::optional<ResultFolder> folder;
    std::vector<NeedleScore> scores;
    world.agree([&] {
        check_study(config.eval);
        const ModelConfig model = read_model(config);
        policies = eval_policies(config, model);
        if (policies.size() > 1 && !(options.report().empty() && flags.profile.path().empty()))
            throw usage_error(
                "--report and --profile are of one policy, and there are {}: name "
                "one with --policies and --cache-sizes",
                policies.size());
        if (!first)
            return;
        questions = read_questions(config, model);
        folder.emplace(output);
    });

    ExitCode code = ExitCode::Done;
    for (const ListedPolicy& policy : policies) {
        RunConfig one = config;
        one.policy = policy.cells;
        std::string journal;
        world.agree([&] {
            if (first)
                journal = folder->journal(policy);
        });
        if (first)
            spdlog::info("{}: {} prompts", policy.label, questions.prompts.size());
        const ExitCode done =
            run_jobs(context, {.command = "eval needle",
                               .config = one,
                               .signals = signals,
                               .flags = flags,
                               .report = options.report(),
                               .quiet = options.quiet(),
                               .layers = false,
                               .decisive = questions.made_from,
                               .read = [&](const ModelConfig&, const std::string& digest,
                                           std::optional<ResultWriter>& results,
                                           std::optional<Tokenizer>& tokenizer) {
                                   results.emplace(journal, digest);
                                   tokenizer = load_tokenizer(one.model.path);
                                   std::vector<BatchJob> jobs;
                                   for (const NeedlePrompt& prompt : questions.prompts)
                                       if (!results->done(prompt.which.id()))
                                           jobs.push_back(job_of(prompt, one));
                                   return jobs;
                               }});
        if (done == ExitCode::Stopped)
            return done;
        if (done != ExitCode::Done)
            code = done;
        world.agree([&] {
            if (first)
                std::ranges::copy(
                    needle_scores(policy.policy, questions.prompts, read_answers(journal)),
                    std::back_inserter(scores));
        });
    }
    if (config.eval.part != "0/1") {
        if (first)
            spdlog::info("the table and needle.csv are of all parts: start without --part then");
        return code;
    }
    world.agree([&] {
        if (first)
            folder->write("needle.csv", needle_csv(scores));
    });
    print_once(context, needle_table(scores));
    return code;
}

}  // namespace cake
