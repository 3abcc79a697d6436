// What every step of the engine gets: where to compute, how to speak, and where to book the time.
#pragma once

#include "base/rank_status.h"
#include "base/timer.h"
#include "comm/communicator.h"
#include "kernels/backend.h"

namespace cake {

struct Rank {
    Backend& dev;
    Communicator& comm;
    PhaseTimes* times;  // null: time is not booked
    Stream stream{};
    Communicator* sharers = nullptr;  // ranks that hold this rank's KV head with it; null: none do
    Stream wire{1};                // of sums over ranks that are made beside what `stream` computes
    RankStatus* status = nullptr;  // who wants to know what this rank is at; null: nobody

    PhaseScope time(Phase phase) const { return PhaseScope(times, phase); }
    void at(RunPart part, int layer) const {
        if (status)
            status->at(part, layer);
    }
};

}  // namespace cake
