#include "comm/watchdog.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/error.h"
#include "base/exit_timer.h"
#include "base/hash.h"
#include "base/stop_signals.h"
#include "base/timer.h"

namespace cake {
namespace {

constexpr double kPeriod_s = 0.2;
constexpr int kKilled = 128 + SIGKILL;

void sleep_s(double seconds) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

bool has_ended(const Peers::Neighbour& n) {
    pollfd process{n.process, POLLIN, 0};
    return n.process >= 0 && poll(&process, 1, 0) > 0;
}

}  // namespace

Watchdog::Watchdog(RankStatus& mine, std::unique_ptr<Peers> peers, std::function<void(int)> end_all)
    : mine_(mine),
      peers_(std::move(peers)),
      end_all_(std::move(end_all)),
      stillness_(2 * kPeriod_s),
      wake_(eventfd(0, EFD_CLOEXEC)),
      thread_([this](std::stop_token stop) { run(stop); }) {}

Watchdog::~Watchdog() {
    thread_.request_stop();
    if (eventfd_write(wake_, 1) != 0)
        spdlog::debug("the watchdog ends a moment later");
    thread_.join();
    close(wake_);
}

Watchdog::Group& Watchdog::group(std::vector<int> ranks) {
    const std::scoped_lock lock(mutex_);
    const auto same = std::count_if(groups_.begin(), groups_.end(),
                                    [&](const auto& g) { return g->ranks == ranks; });
    const auto key = std::uint32_t(fnv1a(std::as_bytes(std::span(ranks)))) + std::uint32_t(same);
    groups_.push_back(std::make_unique<Group>(Group{key, std::move(ranks)}));
    return *groups_.back();
}

double Watchdog::period_s() const { return std::min(kPeriod_s, deadline_s_ / 10); }

void Watchdog::run(std::stop_token stop) {
    pthread_setname_np(pthread_self(), "watchdog");  // as top and gdb show it
    const Timer clock;
    std::vector<Peers::Neighbour> alive = peers_->neighbours();
    std::erase_if(alive, [](const auto& n) { return n.process < 0; });
    while (!stop.stop_requested()) {
        std::vector<pollfd> events{{wake_, POLLIN, 0}};
        for (const auto& n : alive)
            events.push_back({n.process, POLLIN, 0});
        if (poll(events.data(), events.size(), int(1e3 * period_s())) < 0 && errno != EINTR)
            sleep_s(period_s());
        if (stop.stop_requested())
            return;
        std::erase_if(alive, [this](const auto& n) {
            const bool ended = has_ended(n);
            if (ended)
                bury(n);
            return ended;
        });
        const Whereabouts mine = mine_.read();
        if (mine.part == RunPart::Input &&
            mine.call == Call::None)  // it waits for people, or files
            mine_.advance();
        try {
            peers_->exchange(clock.seconds(), std::min(1.0, deadline_s_ / 10));
        } catch (const Error& error) {
            mine_.last_word(int(error.code()), error.what());
            end(int(error.code()));
        }
        watch_waiting(clock.seconds());
    }
}

// ---- a rank that died

bool Watchdog::lower_neighbour(const std::function<bool(const Peers::Neighbour&)>& is) const {
    const auto& all = peers_->neighbours();
    return std::any_of(all.begin(), all.end(), [&](const auto& n) {
        return n.rank < mine_.rank() && !has_ended(n) && is(n);
    });
}

void Watchdog::bury(const Peers::Neighbour& dead) {
    using Ending = RankStatus::Ending;
    const Ending ending = dead.page->ending;
    if (ending == Ending::InGoodOrder)
        return;
    const int code = ending == Ending::Said ? dead.page->exit_code.load() : kKilled;
    // Where somebody ends all ranks (a launcher, after Ctrl-C), this one is gone before it accuses anybody, or has been told.
    sleep_s(0.1);
    if (lower_neighbour([](const auto&) { return true; }))
        sleep_s(1);
    else if (ending == Ending::None && !StopSignals::came() && mine_.claim_last_word(code))
        print_last_word(dead.rank, peers_->host(dead.rank), dead.page->read(),
                        "died without a word: it was killed, perhaps by the out-of-memory killer "
                        "(`dmesg` or the scheduler's log tells; `cake plan` says what memory a run "
                        "takes)");
    end(code);
}

// In the end this process ends by itself: an abort may wait for a link that is down.
void Watchdog::end(int exit_code) {
    mine_.claim_last_word(exit_code);
    exit_after(2, exit_code);
    end_all_(exit_code);
    _exit(exit_code);
}

// ---- a rank that hangs

// Nobody, where this rank does not wait.
const Watchdog::Group* Watchdog::waited_for(const Whereabouts& mine) {
    const std::uint64_t looks = looks_;
    const bool looks_on = std::exchange(looked_, looks) != looks;
    // Who gives a GPU more than its queue holds waits inside of the driver, and does not look.
    const bool computes = mine.part == RunPart::Prefill || mine.part == RunPart::Decode;
    if (mine.call == Call::None)
        return looks_on || computes ? device_group_.load() : nullptr;
    const std::scoped_lock lock(mutex_);
    const auto found = std::find_if(groups_.begin(), groups_.end(),
                                    [&](const auto& g) { return g->key == mine.group; });
    return found == groups_.end() ? nullptr : found->get();
}

void Watchdog::watch_waiting(double now_s) {
    Whereabouts mine = mine_.read();
    const Group* group = waited_for(mine);
    // What follows below is no move of its own.
    std::uint64_t moved = mine.call == Call::Message ? mine.number : mine.progress;
    bool loads = mine.part < RunPart::Prefill;
    if (group) {
        for (int rank : group->ranks) {
            const Whereabouts at = peers_->at(rank);
            moved += at.progress;  // none of them ever goes back, so the sum tells
            loads = loads || at.part < RunPart::Prefill;
        }
    }
    const double still_s = stillness_.look(now_s, moved);
    if (!group)
        return;
    if (mine.call == Call::None)
        mine.call = Call::Device;
    // A leader that waits for rank 0 is not what its own group should be ended for.
    if (mine.call == Call::Message && still_s == 0)
        mine_.advance();
    if (still_s >= deadline_s_ * (loads ? kLoadFactor : 1))
        accuse(*group, mine, now_s, still_s);
}

void Watchdog::accuse(const Group& group, const Whereabouts& mine, double now_s, double still_s) {
    if (mine.call == Call::Device) {  // which no page says yet
        mine_.enter(Call::Device, group.key, 0);
        sleep_s(2 * period_s());
    }
    // One of a host speaks: the lowest of those that wait, if it comes to the same end.
    const auto waits_too = [](const auto& n) { return n.page->call != Call::None; };
    if (lower_neighbour(waits_too)) {
        sleep_s(1);
        if (lower_neighbour(
                [](const auto& n) { return n.page->ending == RankStatus::Ending::Said; }))
            end(int(ExitCode::Failed));
    }
    const std::string number =
        mine.call == Call::Device ? "" : fmt::format("call {} ", mine.number);
    mine_.last_word(
        int(ExitCode::Failed),
        fmt::format("waits in {}, {}of ranks {}, and for {:.0f} s none of them got anything done. "
                    "{}. A process hangs or is stopped, or a link is down; where all is only slow, "
                    "raise comm.timeout_s ({:g})",
                    name(mine.call), number, fmt::join(group.ranks, ", "), still_s,
                    not_come(group, mine, now_s), deadline_s_.load()));
    end(int(ExitCode::Failed));
}

std::string Watchdog::not_come(const Group& group, const Whereabouts& mine, double now_s) const {
    std::string missing, silent;
    for (int rank : group.ranks) {
        if (rank == mine_.rank())
            continue;
        const Whereabouts at = peers_->at(rank);
        const double silent_s = peers_->silent_s(rank, now_s);
        const std::string who = fmt::format("rank {} on {}", rank, peers_->host(rank));
        if (silent_s > 2 * std::min(1.0, deadline_s_ / 10) + 2 * kPeriod_s)
            silent += fmt::format("{}{}, {:.1f} s ago in {}", silent.empty() ? "" : "; ", who,
                                  silent_s, place(at));
        else if (at.call == Call::None || at.group != mine.group || at.number < mine.number)
            missing += fmt::format("{}{}, in {}{}", missing.empty() ? "" : "; ", who, place(at),
                                   at.call == Call::None ? ""
                                                         : fmt::format(", waiting in {}, call {}",
                                                                       name(at.call), at.number));
    }
    std::string text;
    if (!missing.empty())
        text = (mine.call == Call::Device ? "The others: " : "Not come: ") + missing;
    if (!silent.empty())
        text += (text.empty() ? "" : ". ") + ("Not heard of since: " + silent);
    return text.empty() ? "All have come" : text;
}

}  // namespace cake
