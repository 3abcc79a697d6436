#include "cli/batch_jobs.h"

#include <algorithm>
#include <utility>

#include "cli/prompt.h"
#include "cli/session.h"

namespace cake {

using nlohmann::json;

namespace {

// Tokens, lengths and sampling of jobs; what a job leaves open comes from the configuration.
class JobTexts {
public:
    // Without a tokenizer no job may have a text. Usage error where the chat template is not known.
    JobTexts(const RunConfig& config, const ModelConfig& model,
             const std::optional<Tokenizer>& tokenizer);

    // What is wrong with a job is its error, with `file` and line.
    BatchJob prepare(const Job& job, const std::string& file) const;

private:
    std::vector<TokenId> tokens_of(const Job& job) const;

    const RunConfig& config_;
    const ModelConfig& model_;
    const std::optional<Tokenizer>& tokenizer_;
    std::string chat_ = "none";
};

JobTexts::JobTexts(const RunConfig& config, const ModelConfig& model,
                   const std::optional<Tokenizer>& tokenizer)
    : config_(config), model_(model), tokenizer_(tokenizer) {
    if (!tokenizer)
        return;
    check_vocabulary(*tokenizer, model.vocab, config.model.path);
    chat_ = chosen_template(config, *tokenizer);
    encode_prompt(chat_, "", *tokenizer);  // once for all jobs: is the template known?
}

std::vector<TokenId> JobTexts::tokens_of(const Job& job) const {
    if (!job.tokens)
        return encode_prompt(chat_, job.prompt, *tokenizer_);
    for (TokenId id : *job.tokens)
        if (id < 0 || id >= model_.vocab)
            throw usage_error("token {} is not an id from 0 to {}", id, model_.vocab - 1);
    return *job.tokens;
}

BatchJob JobTexts::prepare(const Job& job, const std::string& file) const {
    BatchJob out;
    out.request.id = job.id;
    out.line = job.line;
    out.error = job.error;
    if (!out.error.empty())
        return out;
    try {
        Request& r = out.request;
        r.prompt = tokens_of(job);
        r.max_new_tokens =
            fit_context(model_, int(r.prompt.size()),
                        job.max_new_tokens.value_or(config_.generation.max_new_tokens));
        r.sampling = sampling_of(config_);
        r.sampling.temperature = job.temperature.value_or(r.sampling.temperature);
        if (job.seed)
            r.sampling.seed = std::uint64_t(*job.seed);
        out.stop = job.stop.value_or(config_.generation.stop);
    } catch (const Error& error) {
        out.error = fmt::format("{}:{}: {}", file, job.line, error.what());
    }
    return out;
}

}  // namespace

std::vector<BatchJob> read_jobs(const std::string& input, const RunConfig& config,
                                const ModelConfig& model, const ResultWriter& results,
                                std::optional<Tokenizer>& tokenizer) {
    JobReader reader(input);
    std::vector<Job> jobs;
    bool has_texts = false;
    while (auto job = reader.next()) {
        if (results.done(job->id))
            continue;
        has_texts |= job->error.empty() && !job->tokens;
        jobs.push_back(*std::move(job));
    }
    if (has_texts)
        tokenizer = load_tokenizer(config.model.path);
    else if (!jobs.empty())
        tokenizer = tokenizer_or_none(config.model.path);
    const JobTexts texts(config, model, tokenizer);
    std::vector<BatchJob> out;
    for (Job& job : jobs)
        out.push_back(texts.prepare(std::exchange(job, {}), reader.name()));
    return out;
}

namespace {

void refuse(BatchJob& job, const std::string& why) {
    job.error = job.line > 0 ? fmt::format("line {}: {}", job.line, why) : why;
    job.refused = true;
}

}  // namespace

void refuse_long(std::vector<BatchJob>& jobs, int longest) {
    for (BatchJob& job : jobs)
        if (job.error.empty() && int(job.request.prompt.size()) > longest)
            refuse(job, fmt::format("a prompt of {} tokens does not fit into this host's memory, "
                                    "the longest that does has {}: take more ranks or hosts",
                                    job.request.prompt.size(), longest));
}

void refuse_large(std::vector<BatchJob>& jobs, const PlanInput& plan) {
    const RankPlan rank = plan_rank(plan, 0);
    const PageLayout layout = page_layout(plan, rank.shard);
    for (BatchJob& job : jobs) {
        const auto pages =
            pages_needed(plan.policies.front(), plan.model.n_layers, int(job.request.prompt.size()),
                         job.request.max_new_tokens, layout);
        if (job.error.empty() && pages > rank.pages)
            refuse(job, fmt::format(
                            "prompt and answer of {} + {} tokens need {} of cache on a rank, and "
                            "the pool has {}: raise engine.kv_bytes, take a smaller "
                            "policy.cache_size or more ranks, and start again",
                            job.request.prompt.size(), job.request.max_new_tokens,
                            human_bytes(double(pages) * double(layout.bytes())),
                            human_bytes(double(rank.kept_cache))));
    }
}

BatchLimits limits_of(const std::vector<BatchJob>& jobs) {
    BatchLimits most;
    for (const BatchJob& job : jobs) {
        if (!job.error.empty())
            continue;
        ++most.jobs;
        most.prompt = std::max(most.prompt, std::int32_t(job.request.prompt.size()));
        most.new_tokens = std::max(most.new_tokens, std::int32_t(job.request.max_new_tokens));
    }
    return most;
}

std::string encode_job(const BatchJob& job) {
    const Request& r = job.request;
    std::string out;
    json::to_cbor({{"id", r.id},
                   {"prompt", r.prompt},
                   {"max_new_tokens", r.max_new_tokens},
                   {"temperature", r.sampling.temperature},
                   {"seed", r.sampling.seed},
                   {"stop", job.stop},
                   {"ends", r.end_of_sequence},
                   {"first_is_answer", r.first_is_answer}},
                  out);
    return out;
}

BatchJob decode_job(const std::string& bytes, const Sampling& common) {
    const json in = json::from_cbor(bytes);
    BatchJob job;
    job.request.sampling = common;
    job.stop = in["stop"].get<std::vector<std::string>>();
    job.request.id = in["id"];
    job.request.prompt = in["prompt"].get<std::vector<TokenId>>();
    job.request.max_new_tokens = in["max_new_tokens"];
    job.request.sampling.temperature = in["temperature"];
    job.request.sampling.seed = in["seed"];
    job.request.end_of_sequence = in["ends"].get<std::vector<TokenId>>();
    job.request.first_is_answer = in["first_is_answer"];
    return job;
}

}  // namespace cake
