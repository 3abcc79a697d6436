// --profile: when each rank was busy with what.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "comm/world.h"
#include "engine/engine.h"

namespace cake {

class Profile {
public:
    void add_to(CLI::App& app);
    const std::string& path() const { return path_; }  // empty: none wanted

    // Collective: from here on, on all ranks, times count, and phases are noted.
    void start(World& world, Engine& engine);
    // Collective: rank 0 writes all ranks' phases as Chrome's trace events (chrome://tracing, Perfetto).
    void write(World& world, Engine& engine) const;

private:
    std::string path_;
    PhaseTrace trace_;
};

}  // namespace cake
