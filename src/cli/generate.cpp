// `cake generate`: one prompt in, text out, streamed.
#include <cstdio>
#include <optional>

#include <spdlog/spdlog.h>

#include "base/progress.h"
#include "cli/alike.h"
#include "cli/options.h"
#include "cli/profile.h"
#include "cli/prompt.h"
#include "cli/session.h"
#include "cli/text_stream.h"
#include "engine/report.h"
#include "engine/request_report.h"

namespace cake {
namespace {

struct Outputs {
    std::string report, kept;
    bool budgets = false;
};

// Rank 0 reads and tokenises; the others are sent what it made of it.
void broadcast_prompt(Communicator& comm, std::vector<TokenId>& ids) {
    std::int64_t n = std::int64_t(ids.size());
    comm.broadcast_bytes(std::as_writable_bytes(std::span(&n, 1)), 0);
    ids.resize(std::size_t(n));
    comm.broadcast_bytes(std::as_writable_bytes(std::span(ids)), 0);
}

}  // namespace

ExitCode run_generate(CommandContext& context) {
    CLI::App app("One prompt in, text out.", "cake generate");
    ModelOptions options(app);
    PromptOptions prompt(app);
    Outputs outputs;
    app.add_option("--dump-kept", outputs.kept,
                   "write the positions that each layer and KV head kept, JSON")
        ->type_name("FILE");
    app.add_flag("--show-budgets", outputs.budgets,
                 "a table of the layers' budgets, on standard error");
    Profile profile;
    profile.add_to(app);
    if (const auto over = parse_arguments(context, app))
        return *over;
    const RunConfig config = options.resolve(context);
    World& world = context.world;
    const bool first = world.rank() == 0;

    world.status().at(first ? RunPart::Input : RunPart::Start);
    check_same_model(world, config.model.path);
    const GpuSurvey gpus = find_gpus(config, world);
    std::unique_ptr<Backend> dev;
    std::optional<Tokenizer> tokenizer;
    Request request;
    request.id = "0";
    ModelConfig model;
    world.agree([&] {
        check_one_replica(config, world.size());
        model = read_model(config);
        dev = make_backend(config, gpus, world);
        check_types(config, dev->types());
        make_policy(config.policy,
                    model);  // all that can be wrong is said before the prompt is read
        shard_of(model, world.size(), world.rank());
        if (!first)
            return;
        if (!outputs.kept.empty() && outputs.kept == options.report())
            throw usage_error("--report and --dump-kept name the same file, {}", outputs.kept);
        check_writable(options.report());
        check_writable(outputs.kept);
        check_writable(profile.path());
        if (prompt.is_text()) {
            tokenizer = load_tokenizer(config.model.path);
            request.prompt = prompt.read_text(config, *tokenizer, model.vocab);
        } else {
            tokenizer = tokenizer_or_none(config.model.path);
            request.prompt = prompt.read_ids(model.vocab);
        }
    });
    broadcast_prompt(world.comm(), request.prompt);

    PlanInput plan;
    world.agree([&] {
        const int S = int(request.prompt.size());
        request.max_new_tokens = fit_context(model, S, config.generation.max_new_tokens);
        if (request.max_new_tokens < config.generation.max_new_tokens)
            spdlog::warn(
                "prompt and answer exceed the model's context of {} tokens: at most {} new tokens "
                "instead of {}",
                model.max_positions, request.max_new_tokens, config.generation.max_new_tokens);
        plan = plan_input(config, model, world.size(), S, request.max_new_tokens, dev->types());
        plan.overlap = speaks_nccl(config, *dev, plan.ranks);
        check_memory(plan, *dev, world);
    });
    const auto group = make_group(config, world, *dev, 0);
    const auto engine = load_engine(context, *dev, *group, config, plan, options.quiet());
    profile.start(world, *engine);

    request.sampling = sampling_of(config);
    std::optional<TextStream> text;
    if (first) {
        text.emplace(tokenizer, config.generation.stop, stdout);
        if (tokenizer && !config.generation.ignore_eos)
            request.end_of_sequence = tokenizer->end_of_sequence();
    }
    Generation generation;
    {
        const std::int64_t chunk = workspace_size(plan).chunk;
        const std::int64_t chunks = (plan.prompt + chunk - 1) / chunk;
        Progress bar("prefill, layers x chunks", model.n_layers * chunks,
                     first && !options.quiet());
        PrefillOptions prefill{.check = config.check};
        prefill.progress = [&](int layer, int tokens) {
            bar.update(layer * chunks + (tokens + chunk - 1) / chunk);
        };
        generation = engine->generate(
            request,
            [&](TokenId id) {
                bar.finish();
                return text->take(id);
            },
            prefill);
    }
    spdlog::debug("{} tokens in, {} out", request.prompt.size(), generation.tokens.size());
    const std::string answer = first ? text->finish() : "";
    if (first) {
        std::puts("");
        flush_output();
    }

    world.status().at(RunPart::Write);
    const ReportContext facts{config, "generate", world.host(), dev->info().threads};
    const nlohmann::json report =
        make_report(*engine, world.comm(), facts,
                    nlohmann::json::array({request_json(*engine, request, generation, answer)}));
    if (!outputs.kept.empty()) {
        const nlohmann::json kept = {
            {"requests", nlohmann::json::array({kept_json(*engine, request, generation)})}};
        if (first)
            write_json(outputs.kept, kept);
    }
    if (first && !options.report().empty())
        write_json(options.report(), report);
    profile.write(world, *engine);
    if (first && outputs.budgets)
        fmt::print(stderr, "{}", budget_table(report));
    return ExitCode::Done;
}

}  // namespace cake
