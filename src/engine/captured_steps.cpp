#include "engine/captured_steps.h"

namespace cake {
namespace {

// That are kept; then all are made anew. A graph takes memory that no plan knows (how much was not measured), a key next
// to none.
constexpr std::int64_t kMostGraphs = 64;
constexpr std::size_t kMostKeys = 4096;

Communicator::Traffic traffic_of(const Communicator* comm) {
    return comm ? comm->traffic() : Communicator::Traffic{};
}

}  // namespace

bool CapturedSteps::can_capture() const {
    return rank_.comm.in_stream() && (!rank_.sharers || rank_.sharers->in_stream());
}

void CapturedSteps::run(const Key& key, const Step& step) {
    if (!can_capture())
        return step(rank_);
    const auto found = steps_.find(key);
    if (found == steps_.end()) {
        if (graphs_ >= kMostGraphs || steps_.size() >= kMostKeys)
            forget();
        steps_[key] = {};
        return step(rank_);
    }
    Captured& captured = found->second;
    if (captured.replay) {
        count_again(captured);
    } else {
        captured = capture(step);
        if (!captured.replay)
            return step(rank_);
        ++graphs_;
    }
    rank_.at(RunPart::Decode, -1);  // of layers a replay tells nothing
    auto t = rank_.time(Phase::Replay);
    captured.replay();
    ++replays_;
}

CapturedSteps::Captured CapturedSteps::capture(const Step& step) const {
    Rank untimed = rank_;  // a replay calls no timer
    untimed.times = nullptr;
    const auto sent = traffic_of(&rank_.comm), among_sharers = traffic_of(rank_.sharers);
    Captured out;
    out.replay = rank_.dev.capture(rank_.stream, [&] { step(untimed); });
    out.sent = traffic_of(&rank_.comm) - sent;
    out.among_sharers = traffic_of(rank_.sharers) - among_sharers;
    return out;
}

void CapturedSteps::count_again(const Captured& step) const {
    rank_.comm.count_again(step.sent);
    if (rank_.sharers)
        rank_.sharers->count_again(step.among_sharers);
}

}  // namespace cake
