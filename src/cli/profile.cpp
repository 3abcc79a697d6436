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

// Rank `root`'s, on all ranks.
std::string text_of(Communicator& comm, std::string text, int root) {
    std::uint64_t size = text.size();
    comm.broadcast_bytes(std::as_writable_bytes(std::span(&size, 1)), root);
    text.resize(size);
    comm.broadcast_bytes(std::as_writable_bytes(std::span(text)), root);
    return text;
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
    std::ofstream out;
    if (world.rank() == 0)
        out.open(path_);
    out << "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
    for (int r = 0; r < world.size(); ++r) {  // some 20 MB each
        const std::string mine =
            r == world.rank() ? events_of(r, world.host(), trace_) : std::string();
        out << (r > 0 ? ",\n" : "") << text_of(world.comm(), mine, r);
    }
    out << "\n]}\n";
    if (world.rank() == 0 && !out.flush())
        throw Error(fmt::format("{}: could not be written; is the disk full?", path_));
}

}  // namespace cake
