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

constexpr const char* name(Phase phase) {
    constexpr std::array<const char*, std::size_t(Phase::Count)> names{
        "linear", "attention", "observe", "evict", "all_reduce", "replay", "sampling"};
    return names[std::size_t(phase)];
}

// Seconds by phase of one part of a run (prefill, decode).
struct PhaseTimes {
    std::array<double, std::size_t(Phase::Count)> seconds{};
    double total_s = 0;  // of the part; what no phase names is "other"
    double& operator[](Phase p) { return seconds[std::size_t(p)]; }
    double operator[](Phase p) const { return seconds[std::size_t(p)]; }
};

}  // namespace cake
