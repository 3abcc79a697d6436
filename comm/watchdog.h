// Ends all ranks when one of them dies without a word, or when nothing moves any more.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/rank_status.h"
#include "comm/peers.h"
#include "comm/stillness.h"

namespace cake {

// A thread that looks a few times a second, and at once when a process of this host ends. It costs nothing else.
//
// A rank that died: the lowest living rank of its host says which, unless it has said so itself, and all end.
//
// A rank that hangs: where this rank waits for a group of ranks (in a collective, for a message, in its GPU for theirs), and no
// rank of the group gets anything done for the deadline, it says who has not come, and all end. Only time in which
// this thread itself ran counts, so a job that was stopped and goes on accuses nobody.
class Watchdog {
public:
    // Ranks that wait for each other, and how many calls they have made together.
    struct Group {
        std::uint32_t key;  // the same on all of them, and no other group's
        std::vector<int> ranks;
        std::uint64_t calls = 0;
    };

    // Collective. `end_all` ends all ranks with that exit code.
    Watchdog(RankStatus& mine, std::unique_ptr<Peers> peers, std::function<void(int)> end_all);
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    // Before the model has been loaded it is kLoadFactor times as long: a first reading of a file may be slow.
    static constexpr double kDeadline_s = 300;
    static constexpr double kLoadFactor = 4;
    void set_deadline(double seconds) { deadline_s_ = seconds; }
    double deadline_s() const { return deadline_s_; }

    // Lives as long as this. Made by all of them, in the same order.
    Group& group(std::vector<int> ranks);
    // This rank waits for that group, or no longer. A rank waits in one thread.
    void enter(Group& group, Call call) { mine_.enter(call, group.key, ++group.calls); }
    void leave() { mine_.leave(); }
    // The host is waiting for its GPU, which may wait for those of `group`: called over and over, and once before.
    void looks_at_device(Group& group) {
        device_group_ = &group;
        ++looks_;
    }

private:
    void run(std::stop_token stop);
    void watch_waiting(double now_s);
    const Group* waited_for(const Whereabouts& mine);
    void accuse(const Group& group, const Whereabouts& mine, double now_s, double still_s);
    std::string not_come(const Group& group, const Whereabouts& mine, double now_s) const;
    void bury(const Peers::Neighbour& dead);
    bool lower_neighbour(const std::function<bool(const Peers::Neighbour&)>& is) const;
    [[noreturn]] void end(int exit_code);
    double period_s() const;

    RankStatus& mine_;
    std::unique_ptr<Peers> peers_;
    std::function<void(int)> end_all_;
    std::atomic<double> deadline_s_{kDeadline_s};
    std::mutex mutex_;  // of groups_
    std::vector<std::unique_ptr<Group>> groups_;
    std::atomic<Group*> device_group_{nullptr};
    std::atomic<std::uint64_t> looks_{0};
    std::uint64_t looked_ = 0;  // looks_ as it was last time
    Stillness stillness_;
    int wake_;  // an eventfd: the end
    std::jthread thread_;
};

// enter() and leave() of a scope.
class Waiting {
public:
    Waiting(Watchdog& watchdog, Watchdog::Group& group, Call call) : watchdog_(watchdog) {
        watchdog_.enter(group, call);
    }
    ~Waiting() { watchdog_.leave(); }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;

private:
    Watchdog& watchdog_;
};

}  // namespace cake
