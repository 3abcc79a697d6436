#include "cli/profile.h"

#include <fstream>

#include <spdlog/spdlog.h>

#include "cli/cli.h"

namespace cake {
namespace {

// A process of the trace is a rank. Times are microseconds.
std::string events_of(int rank, const std::string& host, const PhaseTrace& trace) {
    std::string out =
        fmt::format(R"({{"name":"process_name","ph":"M","pid":{},"args":{{"name":{}}}}})", rank,
                    nlohmann::json(fmt::format("rank {} on {}", rank, host)).dump());
    for (const PhaseTrace::Span& s : trace.spans)
        out += fmt::format(
            ",\n"
            R"({{"name":"{}","cat":"{}","ph":"X","pid":{},"tid":0,"ts":{:.3f},"dur":{:.3f},"args":{{"layer":{}}}}})",
            name(s.phase), s.part, rank, 1e6 * s.begin_s, 1e6 * s.seconds, s.layer);
    return out;
}

}  // namespace

void Profile::add_to(CLI::App& app) {
    app.add_option("--profile", path_,
                   "write when each rank was busy with what, as Chrome's trace events, JSON")
        ->type_name("FILE");
}

void Profile::start(World& world, Engine& engine) {
    if (path_.empty())
        return;
    world.comm().barrier();
    trace_.last = engine.dev().record({});
    engine.prefill_clock().trace(trace_, "prefill");
    engine.decode_clock().trace(trace_, "decode");
}

void Profile::write(World& world, Engine& engine) const {
    if (path_.empty())
        return;
    engine.prefill_clock().settle();
    engine.decode_clock().settle();
    if (trace_.spans.size() == PhaseTrace::kMost && world.rank() == 0)
        spdlog::warn("{} has the first {} phases of each rank", path_, PhaseTrace::kMost);
    const auto all = world.comm().gather_strings(events_of(world.rank(), world.host(), trace_));
    if (world.rank() != 0)
        return;
    std::ofstream out(path_);
    out << fmt::format("{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n{}\n]}}\n",
                       fmt::join(all, ",\n"));
    if (!out.flush())
        throw Error(fmt::format("{}: could not be written; is the disk full?", path_));
}

}  // namespace cake
