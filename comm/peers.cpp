#include "comm/peers.h"

#include <algorithm>
#include <sstream>
#include <sys/syscall.h>
#include <unistd.h>

#include <fmt/format.h>

namespace cake {
namespace {

// glibc has it from 2.36 on.
int open_process(int pid) {
#ifdef SYS_pidfd_open
    return int(syscall(SYS_pidfd_open, pid, 0));
#else
    (void)pid;
    return -1;
#endif
}

// Of the ranks of this host, but this one; what was reached so far is left there. False where one cannot be reached from here.
bool reach(const RankStatus& mine, const std::vector<std::string>& cards,
           std::vector<Peers::Neighbour>& reached) {
    for (const std::string& card : cards) {
        int rank = 0, pid = 0, file = -1;
        std::uint64_t nonce = 0;
        std::istringstream(card) >> rank >> pid >> file >> nonce;
        if (rank == mine.rank())
            continue;
        auto page = map_page(pid, file, nonce);
        if (!page)
            return false;
        reached.push_back({rank, open_process(pid), std::move(page)});
    }
    return true;
}

}  // namespace

Peers::Peers(const RankStatus& mine, Communicator& all, Communicator& here, bool share_pages)
    : mine_(mine), hosts_(all.gather_strings(mine.host())), seen_(hosts_.size()) {
    const auto cards = here.gather_strings(
        fmt::format("{} {} {} {}", mine.rank(), getpid(), mine.file(), mine.page().nonce));
    const bool reached = share_pages && reach(mine, cards, neighbours_);
    const auto answers = here.gather_strings(reached ? "" : "no");
    if (std::any_of(answers.begin(), answers.end(), [](const auto& no) { return !no.empty(); }))
        leave_neighbours();
    for (const Neighbour& n : neighbours_)
        seen_[std::size_t(n.rank)].page = n.page;

    std::vector<int> with;
    for (int r = 0; r < size(); ++r)
        if (r != mine.rank() && !seen_[std::size_t(r)].page)
            with.push_back(r);
    // All make them, or none does: it is a collective call.
    const auto any = all.gather_strings(with.empty() ? "" : "some");
    if (std::any_of(any.begin(), any.end(), [](const auto& some) { return !some.empty(); }))
        heartbeats_ = std::make_unique<Heartbeats>(std::move(with));
}

Peers::~Peers() { leave_neighbours(); }

void Peers::leave_neighbours() {
    for (const Neighbour& n : neighbours_)
        if (n.process >= 0)
            close(n.process);
    neighbours_.clear();
}

void Peers::exchange(double now_s, double every_s) {
    if (!heartbeats_)
        return;
    heartbeats_->receive([&](int rank, const Whereabouts& at) {
        seen_[std::size_t(rank)].at = at;
        seen_[std::size_t(rank)].heard_s = now_s;
    });
    if (now_s - sent_s_ < every_s)
        return;
    sent_s_ = now_s;
    heartbeats_->send(mine_.read());
}

Whereabouts Peers::at(int rank) const {
    if (rank == mine_.rank())
        return mine_.read();
    const Seen& seen = seen_[std::size_t(rank)];
    return seen.page ? seen.page->read() : seen.at;
}

double Peers::silent_s(int rank, double now_s) const {
    const Seen& seen = seen_[std::size_t(rank)];
    return rank == mine_.rank() || seen.page ? 0 : now_s - seen.heard_s;
}

}  // namespace cake
