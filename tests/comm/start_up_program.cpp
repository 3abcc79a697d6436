// A program that fails at its start, for start_up_test.cpp. Ends as main() does: usage: start_up_program HOW.
#include <csignal>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <unistd.h>

#include <spdlog/spdlog.h>

#include "base/log.h"
#include "comm/world.h"

namespace {

int run(cake::World& world, const std::string& how) {
    using cake::usage_error;
    const bool chosen = world.rank() == world.size() - 1;
    try {
        world.agree([&] {
            if (how == "all fail" || (how == "one fails" && chosen))
                throw usage_error("no such file: model.gguf");
        });
        if (how == "one fails later" && chosen)
            throw cake::Error("out of memory", cake::ExitCode::Failed);
        if (how == "one unwinds" && chosen)
            throw std::runtime_error("a bug");
        if (how == "one is killed" && chosen)
            std::abort();
        if (world.watchdog())
            world.watchdog()->set_deadline(1);
        world.status().at(cake::RunPart::Decode, 5);
        if (how == "one is stopped" && chosen)
            std::raise(SIGSTOP);
        if (how == "GPUs wait")
            for (auto& ranks = world.watchdog()->group({0, 1, 2});; usleep(1000))
                world.watchdog()->looks_at_device(ranks);
        if (how == "a message does not come") {
            std::optional<cake::Waiting> waiting;
            if (world.rank() != 0)
                waiting.emplace(*world.watchdog(), world.watchdog()->group({0}),
                                cake::Call::Message);
            for (;;)
                usleep(1000);
        }
        world.comm().barrier();  // where the others wait
        if (how == "one does not end" && chosen)
            std::raise(SIGSTOP);
        return 0;
    } catch (const cake::Error& error) {
        const bool together = world.failed_together();
        if (world.rank() == 0 || !together)
            spdlog::error("{}", error.what());
        if (!together)
            world.abort(int(error.code()));
        return int(error.code());
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        cake::World world(argc, argv);
        cake::init_log(world.rank(), "info", false);
        return run(world, argc > 1 ? argv[1] : "");
    } catch (const cake::Error& error) {
        spdlog::error("{}", error.what());
        return int(error.code());
    } catch (const std::exception&) {
        return 1;
    }
}
