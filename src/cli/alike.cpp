#include "cli/alike.h"

#include <algorithm>
#include <filesystem>

#include "base/build_id.h"
#include "base/hash.h"
#include "io/model_files.h"

namespace cake {
namespace {

using nlohmann::json;

std::string value_of(const json& facts, const std::string& key) {
    const auto at = facts.find(key);
    if (at == facts.end())
        return "absent";
    return at->is_string() ? at->get<std::string>() : at->dump();
}

// "/policy/cache_size", as JSON flattens keys, in the spelling of the configuration.
std::string dotted(std::string key) {
    std::replace(key.begin(), key.end(), '/', '.');
    return key.substr(1);
}

}  // namespace

std::string difference(Communicator& comm, const std::string& host, const json& facts) {
    const std::string mine = json{{"host", host}, {"facts", facts.flatten()}}.dump();
    const std::vector<std::string> digests =
        comm.gather_strings(hex64(fnv1a(facts.dump())));  // short where all is well
    const auto other = std::find_if(digests.begin(), digests.end(),
                                    [&](const std::string& d) { return d != digests[0]; });
    if (other == digests.end())
        return "";
    const std::vector<std::string> all = comm.gather_strings(mine);
    const auto rank = other - digests.begin();
    const json first = json::parse(all[0]), second = json::parse(all[std::size_t(rank)]);
    json keys = first["facts"];
    keys.update(second["facts"]);
    for (const auto& [key, unused] : keys.items()) {
        const std::string a = value_of(first["facts"], key), b = value_of(second["facts"], key);
        if (a != b)
            return fmt::format("{} is {} on rank 0 ({}) and {} on rank {} ({})", dotted(key), a,
                               first["host"].get<std::string>(), b, rank,
                               second["host"].get<std::string>());
    }
    return fmt::format("rank {} ({}) differs from rank 0", rank, second["host"].get<std::string>());
}

void check_same_program(World& world, const std::string& command) {
    const std::string what =
        difference(world.comm(), world.host(),
                   {{"version", CAKE_VERSION}, {"build", build_id()}, {"command", command}});
    world.agree([&] {
        if (!what.empty())
            throw usage_error(
                "the ranks run different programs: {}; start the same command of the same build on "
                "all hosts",
                what);
    });
}

void check_same_config(World& world, const RunConfig& config) {
    const std::string what = difference(world.comm(), world.host(), to_json(config));
    world.agree([&] {
        if (!what.empty())
            throw usage_error(
                "the ranks have different configurations: {}; give all ranks the same flags and "
                "files",
                what);
    });
}

void check_same_model(World& world, const std::string& path) {
    std::error_code ignored;
    const bool found = std::filesystem::exists(path, ignored);
    const std::string where =
        difference(world.comm(), world.host(), {{"it", found ? "there" : "missing"}});
    json files = json::object();
    world.agree([&] {
        if (!where.empty())
            throw usage_error(
                "{} is not on all hosts: {}; copy it to all of them, or give a folder that they "
                "share",
                path, where);
        if (found)
            files = describe_model_files(path);
    });
    const std::string what = difference(world.comm(), world.host(), files);
    world.agree([&] {
        if (!what.empty())
            throw usage_error(
                "{} is not the same model on all ranks: {}; copy the same files to all hosts, or "
                "give a folder that they share",
                path, what);
    });
}

}  // namespace cake
