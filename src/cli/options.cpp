#include "cli/options.h"

#include <algorithm>
#include <unistd.h>

#include <spdlog/spdlog.h>

#include "base/build_id.h"
#include "base/log.h"
#include "cli/alike.h"
#include "engine/report.h"

namespace cake {
namespace {

constexpr Flag flag_table[] = {
    {"--model", "model.path", "PATH"},
    {"--backend", "backend", "NAME"},
    {"--policy", "policy.name", "NAME"},
    {"--cache-size", "policy.cache_size", "C"},
    {"--window", "policy.window", "W"},
    {"--tau1", "policy.tau1", "X"},
    {"--tau2", "policy.tau2", "X"},
    {"--gamma", "policy.gamma", "X"},
    {"--rounding", "policy.rounding", "NAME"},
    {"--decode", "policy.decode", "NAME"},
    {"--cascade", "policy.cascade", "BOOL"},
    {"--max-new-tokens", "generation.max_new_tokens", "N"},
    {"--temperature", "generation.temperature", "T"},
    {"--top-p", "generation.top_p", "P"},
    {"--top-k", "generation.top_k", "N"},
    {"--min-p", "generation.min_p", "P"},
    {"--repetition-penalty", "generation.repetition_penalty", "X"},
    {"--logprobs", "generation.logprobs", "N"},
    {"--ignore-eos", "generation.ignore_eos", nullptr},
    {"--seed", "generation.seed", "N"},
    {"--max-batch", "engine.max_batch", "N"},
    {"--chat", "chat", "NAME"},
    {"--threads", "engine.threads", "N"},
    {"--share-gpu", "engine.share_gpu", nullptr},
    {"--check", "check", nullptr},
};

std::string help_of(const std::vector<ConfigKey>& keys, const std::string& path) {
    const auto found = std::find_if(keys.begin(), keys.end(),
                                    [&](const ConfigKey& key) { return key.path == path; });
    CAKE_CHECK(found != keys.end(), "a flag stands for the unknown key {}", path);
    return path + ": " + found->help;
}

// What whoever reads the log alone, later, wants to know first.
void log_start(const World& world, const RunConfig& config) {
    spdlog::debug("cake {}, build {}, rank {} of {}, process {}, local rank {} of {}", CAKE_VERSION,
                  build_id(), world.rank(), world.size(), getpid(), world.local_rank(),
                  world.local_size());
    if (const auto slurm = slurm_json(); !slurm.is_null())
        spdlog::debug("slurm: {}", slurm.dump());
    spdlog::debug("configuration: {}", to_json(config).dump());
}

}  // namespace

ModelOptions::ModelOptions(CLI::App& app, std::span<const Flag> more) {
    app.add_option("--config", files_, "a YAML file of keys; repeatable, later ones win")
        ->type_name("FILE")
        ->allow_extra_args(false);
    app.add_option("--set", settings_, "one key of the configuration; repeatable, wins over files")
        ->type_name("KEY=VALUE")
        ->allow_extra_args(false);

    const std::vector<ConfigKey> keys = config_keys();
    std::vector<Flag> flags(std::begin(flag_table), std::end(flag_table));
    flags.insert(flags.end(), more.begin(), more.end());
    for (const Flag& flag : flags) {
        const std::string help = help_of(keys, flag.key);
        CLI::Option* option = flag.value ? app.add_option(flag.name, help)->type_name(flag.value)
                                         : app.add_flag(flag.name, help);
        option->take_last();
        flags_.push_back({option, flag.name, flag.key});
    }

    app.add_option("--report", report_, "write a report of the run, JSON")->type_name("FILE");
    app.add_option("--log-level", log_level_,
                   "trace, debug, info, warning, error or off; default info")
        ->type_name("LEVEL");
    app.add_option("--log-dir", log_dir_,
                   "a folder where each rank writes a log of its own, with all details")
        ->type_name("DIR");
    app.add_flag("--quiet", quiet_, "no messages below a warning, no progress");
}

RunConfig ModelOptions::resolve(CommandContext& context) const {
    RunConfig config;
    context.world.agree([&] {
        init_log(context.world.rank(), log_level_, quiet_, log_dir_);
        for (const std::string& file : files_)
            apply_config_file(config, file);
        for (const std::string& setting : settings_)
            apply_setting(config, setting);
        for (const Given& given : flags_) {
            if (given.option->count() == 0)
                continue;
            const std::string value = given.option->results().back();
            apply_value(config, given.key, value, given.flag + " " + value);
        }
    });
    if (Watchdog* watchdog = context.world.watchdog())
        watchdog->set_deadline(config.comm.timeout_s);
    log_start(context.world, config);
    check_same_config(context.world, config);
    return config;
}

}  // namespace cake
