// All processes of this run: starts and ends MPI, and makes sure that one that fails ends all.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/rank_status.h"
#include "comm/communicator.h"
#include "comm/watchdog.h"

namespace cake {

class World {
public:
    // Started under mpirun or srun: MPI with all ranks. Started plainly: one rank, and MPI is not touched. Usage error
    // where the launcher started more processes than find each other (launcher.h); of those, all but the first throw it
    // with an empty message, since one is enough.
    World(int& argc, char**& argv);
    // Finalises MPI. While an error that the other ranks do not share unwinds the stack, ends all ranks instead.
    ~World();
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    Communicator& comm() { return *comm_; }
    int rank() const { return comm_->rank(); }
    int size() const { return comm_->size(); }
    const std::string& host() const { return host_; }
    Communicator& local_comm() { return *local_comm_; }  // the ranks of this host
    int local_rank() const { return local_comm_->rank(); }
    int local_size() const { return local_comm_->size(); }
    RankStatus& status() { return *status_; }
    // Its communicators are watched, and so is what splits off. Null: one rank alone.
    Watchdog* watchdog() { return watchdog_.get(); }

    // Start-up that every rank does: runs `step`, which makes no collective call itself, on all; then all learn whether
    // all succeeded. Where one or more
    // failed every rank throws the same Error: the lowest failing rank's message (with rank, host and place where not all
    // failed alike) and exit code. So a bad path is one clean message.
    void agree(const std::function<void()>& step);

    // The last agree() threw, here as on all ranks: each may end by itself, and one message is enough. After any other
    // error main() calls abort().
    bool failed_together() const { return failed_together_; }

    // Ends all ranks at once, after flushing what was printed: used when one fails where the others cannot know. This
    // process ends within 2 s even where a link is down and MPI cannot.
    [[noreturn]] void abort(int exit_code);

private:
    void watch();

    std::string host_;
    std::unique_ptr<RankStatus> status_;
    std::unique_ptr<Watchdog> watchdog_;
    std::unique_ptr<Communicator> comm_;
    std::unique_ptr<Communicator> local_comm_;
    int exceptions_ = 0;  // in flight when this was made
    bool mpi_ = false;
    bool failed_together_ = false;
};

}  // namespace cake
