// Wall-clock time, and time by phase.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>

namespace cake {

class Timer {
public:
    double seconds() const {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    }

private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// What a rank is doing, as reports name it.
enum class Phase {
    Linear,
    Attention,
    Observe,
    Evict,
    AllReduce,
    Replay,  // all of these in one, where a GPU decodes by a captured step
    Sampling,
    Count
};

// Seconds by phase of one part of a run (prefill, decode).
struct PhaseTimes {
    std::array<double, std::size_t(Phase::Count)> seconds{};
    double total_s = 0;  // of the part; what no phase names is "other"
    double& operator[](Phase p) { return seconds[std::size_t(p)]; }
    double operator[](Phase p) const { return seconds[std::size_t(p)]; }
};

// Adds the time of its scope to a phase; null: to none.
class PhaseScope {
public:
    PhaseScope(PhaseTimes* times, Phase phase) : times_(times), phase_(phase) {}
    ~PhaseScope() {
        if (times_)
            (*times_)[phase_] += timer_.seconds();
    }
    PhaseScope(const PhaseScope&) = delete;
    PhaseScope& operator=(const PhaseScope&) = delete;

private:
    PhaseTimes* times_;
    Phase phase_;
    Timer timer_;
};

// Adds what its scope takes of `all`, and its time, to `share` too.
class PhaseShare {
public:
    PhaseShare(const PhaseTimes& all, PhaseTimes& share) : all_(all), before_(all), share_(share) {}
    ~PhaseShare() {
        for (std::size_t i = 0; i < all_.seconds.size(); ++i)
            share_.seconds[i] += all_.seconds[i] - before_.seconds[i];
        share_.total_s += timer_.seconds();
    }
    PhaseShare(const PhaseShare&) = delete;
    PhaseShare& operator=(const PhaseShare&) = delete;

private:
    const PhaseTimes& all_;
    PhaseTimes before_;
    PhaseTimes& share_;
    Timer timer_;
};

}  // namespace cake
