// What the other ranks are at: those of this host are read from their pages, those of others tell it by heartbeats.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/rank_status.h"
#include "comm/communicator.h"
#include "comm/heartbeats.h"

namespace cake {

class Peers {
public:
    // A process of this host whose end can be seen.
    struct Neighbour {
        int rank;
        int process;  // a pidfd: readable once it has ended
        std::shared_ptr<const RankStatus::Page> page;
    };

    // Collective. `all`: the world; `here`: the ranks of this host. Where one of these cannot read another's page (a
    // container each), they all use heartbeats. `share_pages` false: so do all (tests).
    Peers(const RankStatus& mine, Communicator& all, Communicator& here, bool share_pages = true);
    ~Peers();
    Peers(const Peers&) = delete;
    Peers& operator=(const Peers&) = delete;

    int size() const { return int(hosts_.size()); }
    const std::string& host(int rank) const { return hosts_[std::size_t(rank)]; }
    const std::vector<Neighbour>& neighbours() const { return neighbours_; }

    // Heartbeats: mine is sent, at most every so often; what has come is taken.
    void exchange(double now_s, double every_s);

    Whereabouts at(int rank) const;
    // Since the last heartbeat of a rank of another host; 0 for ranks of this one.
    double silent_s(int rank, double now_s) const;

private:
    void leave_neighbours();

    struct Seen {
        Whereabouts at;
        double heard_s = 0;
        std::shared_ptr<const RankStatus::Page> page;  // null: heard of only
    };

    const RankStatus& mine_;
    std::vector<std::string> hosts_;
    std::vector<Seen> seen_;
    std::vector<Neighbour> neighbours_;
    std::unique_ptr<Heartbeats> heartbeats_;  // null: all are read
    double sent_s_ = -1e9;
};

}  // namespace cake
