// `cake eval needle`: facts that a policy's answers find again in long texts.
#include <algorithm>
#include <filesystem>
#include <optional>

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>

#include "base/hash.h"
#include "cli/policy_runs.h"
#include "cli/prompt.h"
#include "cli/session.h"
#include "eval/needle_scores.h"

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
        if (!scratch_)
            return;
        path_ = (std::filesystem::temp_directory_path() / "cake-needle-XXXXXX").string();
        if (!::mkdtemp(path_.data()))
            throw usage_error("{}: a folder cannot be made there: give --output DIR", path_);
    }
    ~ResultFolder() {
        std::error_code ignored;
        if (scratch_)
            std::filesystem::remove_all(path_, ignored);
    }
    ResultFolder(const ResultFolder&) = delete;
    ResultFolder& operator=(const ResultFolder&) = delete;

    const std::string& path() const { return path_; }

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
    for (const NeedlePrompt& prompt : out.prompts) {
        const auto needed =
            tokenizer.encode(fmt::format("{}", fmt::join(prompt.answers, ", ")), false).size();
        if (needed <= std::size_t(config.generation.max_new_tokens))
            continue;
        spdlog::warn(
            "{}: its answers alone have {} tokens, and --max-new-tokens is {}: no policy can find "
            "all of them",
            prompt.which.id(), needed, config.generation.max_new_tokens);
        break;
    }
    for (const std::string& text : texts)
        out.made_from["texts"].push_back(hex64(fnv1a(text)));
    if (!rows.empty())
        out.made_from["data"] = hex64(fnv1a(read_text_file(eval.data)));
    return out;
}

std::vector<BatchJob> jobs_of(std::span<const NeedlePrompt> prompts, const RunConfig& config) {
    std::vector<BatchJob> jobs;
    for (const NeedlePrompt& prompt : prompts) {
        BatchJob job;
        job.request.id = prompt.which.id();
        job.request.prompt = prompt.tokens;
        job.request.max_new_tokens = config.generation.max_new_tokens;
        job.request.sampling = sampling_of(config);
        job.stop = config.generation.stop;
        jobs.push_back(std::move(job));
    }
    return jobs;
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
    PolicyRuns runs{"eval needle", config, options, flags, signals, {}};
    Questions questions;  // rank 0's, like the rest
    std::optional<ResultFolder> folder;
    std::vector<NeedleScore> scores;
    world.agree([&] {
        check_study(config.eval);
        if (config.eval.part != "0/1" && output.empty())
            throw usage_error("--part needs --output DIR: else the part's answers are lost");
        const ModelConfig model = read_model(config);
        runs.policies = policies_to_run(config, model, options, flags);
        if (!first)
            return;
        questions = read_questions(config, model);
        folder.emplace(output);
        runs.folder = folder->path();
    });
    runs.decisive = questions.made_from;
    runs.jobs = [&](const ListedPolicy&, const RunConfig& one) {
        return jobs_of(questions.prompts, one);
    };
    runs.answered = [&](const ListedPolicy& policy, const Answers& answers) {
        std::ranges::copy(needle_scores(policy.policy, questions.prompts, answers),
                          std::back_inserter(scores));
    };
    const ExitCode code = run_policies(context, runs);
    if (code == ExitCode::Stopped || is_part(context, config))
        return code;
    world.agree([&] {
        if (first && !output.empty())
            write_whole(output + "/needle.csv", needle_csv(scores));
    });
    print_once(context, needle_table(scores));
    return code;
}

}  // namespace cake
