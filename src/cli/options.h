// The options of every command that loads a model. A flag is a short name of a configuration key.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/cli.h"
#include "config/run_config.h"

namespace cake {

struct Flag {
    const char* name;
    const char* key;
    const char* value;  // what help calls it; nullptr: a switch, which sets true
};

class ModelOptions {
public:
    // Adds the options to `app`, which must not outlive this object; `more`: a command's own short names of keys.
    explicit ModelOptions(CLI::App& app, std::span<const Flag> more = {});
    ModelOptions(const ModelOptions&) = delete;
    ModelOptions& operator=(const ModelOptions&) = delete;

    // After parsing: sets up the log, and lays files, then --set, then flags over the defaults, on
    // every rank. Usage error where ranks come to different ones.
    RunConfig resolve(CommandContext& context) const;

    const std::string& report() const { return report_; }  // empty: none wanted
    bool quiet() const { return quiet_; }

private:
    struct Given {
        const CLI::Option* option;
        std::string flag, key;
    };
    std::vector<std::string> files_;
    std::vector<std::string> settings_;
    std::vector<Given> flags_;
    std::string report_;
    std::string log_level_ = "info";
    std::string log_dir_;
    bool quiet_ = false;
};

}  // namespace cake
