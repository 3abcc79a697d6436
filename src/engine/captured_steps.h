// Steps of decoding, captured once and replayed.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>

#include "model/rank.h"

namespace cake {

// Where the backend captures, and all collectives are in the stream, a step is captured when its key comes for the second
// time and replayed from then on: the first time it takes what memory it needs, and connects the ranks. All ranks give the
// same keys, so they capture and replay together, as NCCL wants it. Traffic is counted as if nothing were captured.
class CapturedSteps {
public:
    // All that kernels get from the host and that is not the same in all steps.
    using Key = std::array<std::int64_t, 4>;
    // Puts a step into the stream of the rank that it is given, and does nothing else; the same for equal keys.
    using Step = std::function<void(const Rank& rank)>;

    explicit CapturedSteps(const Rank& rank) : rank_(rank) {}

    // Puts the step into the stream.
    void run(const Key& key, const Step& step);

    // Equal keys no longer mean equal steps: memory has moved. The stream is empty.
    void forget() {
        steps_.clear();
        graphs_ = 0;
    }

    std::int64_t replays() const { return replays_; }

private:
    struct Captured {
        std::function<void()> replay;                   // empty: not captured
        Communicator::Traffic sent{}, among_sharers{};  // by one replay
    };
    bool can_capture() const;
    Captured capture(const Step& step) const;
    void count_again(const Captured& step) const;

    Rank rank_;
    std::map<Key, Captured> steps_;
    std::int64_t graphs_ = 0, replays_ = 0;
};

}  // namespace cake
