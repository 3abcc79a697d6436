// What a rank is at, sent to ranks that cannot read its page.
#pragma once

#include <memory>
#include <vector>

#include "base/rank_status.h"

namespace cake {

// Messages of their own kind over MPI, at most one under way to each rank: to one that cannot be reached no more are sent.
// Once made, for one thread, which need not be the one that makes it.
class Heartbeats {
public:
    // Collective over all ranks. `with`: those that this rank exchanges them with, and they with it.
    explicit Heartbeats(std::vector<int> with);
    ~Heartbeats();
    Heartbeats(const Heartbeats&) = delete;
    Heartbeats& operator=(const Heartbeats&) = delete;

    void send(const Whereabouts& mine);
    // Takes what has come. `seen(rank, whereabouts)` for each, in the order of the sender.
    template <typename Seen>
    void receive(Seen seen) {
        while (const Beat* beat = next())
            seen(beat->rank, beat->at);
    }

private:
    struct Beat {
        int rank;
        Whereabouts at;
    };
    const Beat* next();

    struct Mpi;
    std::unique_ptr<Mpi> mpi_;
    Beat received_{};
};

}  // namespace cake
