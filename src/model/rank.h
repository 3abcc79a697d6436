// What every step of the engine gets: where to compute, how to speak, and where to book the time.
#pragma once

#include "base/rank_status.h"
#include "comm/communicator.h"
#include "kernels/backend.h"
#include "model/phase_clock.h"

namespace cake {

struct Rank {
    Backend& dev;
    Communicator& comm;
    PhaseClock* times;  // null: time is not booked
    Stream stream{};
    Communicator* sharers = nullptr;  // ranks that hold this rank's KV head with it; null: none do
    Stream wire{1};                // of sums over ranks that are made beside what `stream` computes
    RankStatus* status = nullptr;  // who wants to know what this rank is at; null: nobody

    PhaseScope time(Phase phase) const {
        return PhaseScope(times, phase, stream, status ? status->layer() : -1);
    }
    void at(RunPart part, int layer) const {
        if (status)
            status->at(part, layer);
    }
    // Until all that is in the stream is done; its time is booked then.
    void wait() const {
        dev.synchronize(stream);
        if (times)
            times->settle();
    }
};

}  // namespace cake
