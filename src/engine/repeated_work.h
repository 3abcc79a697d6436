// Work for a device that comes again and again: a step of decoding.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>

#include "model/rank.h"

namespace cake {

// Where the backend can capture and the collectives are in the stream, work of a key is captured when it comes for the
// second time (the first has it take what memory it needs) and replayed from then on. Traffic is counted as if it were not.
class RepeatedWork {
public:
    // All that the work gets from the host and that differs from one time to another.
    using Key = std::array<std::int64_t, 3>;

    explicit RepeatedWork(const Rank& rank) : rank_(rank) {}

    // Puts the work into the rank's stream. `work` does nothing else than that, and the same for equal keys.
    void run(const Key& key, const std::function<void()>& work);

    // Equal keys no longer mean equal work: memory has moved. The stream is empty.
    void forget() { seen_.clear(); }

    std::int64_t replays() const { return replays_; }

private:
    struct Seen {
        std::function<void()> replay;            // empty: not captured
        Communicator::Traffic sent{}, shared{};  // by all ranks' group, by that of sharers
    };
    bool can_capture() const;
    void capture(Seen& seen, const std::function<void()>& work);

    Rank rank_;
    std::map<Key, Seen> seen_;
    std::int64_t replays_ = 0;
};

}  // namespace cake
