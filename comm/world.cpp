#include "comm/world.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <thread>

#include <mpi.h>
#include <spdlog/spdlog.h>

#include "base/exit_timer.h"
#include "base/log.h"
#include "comm/launcher.h"
#include "comm/mpi.h"
#include "comm/mpi_check.h"
#include "comm/watched.h"

namespace cake {
namespace {

// Each lost process is alone, so none but its launcher's number says whose word it is. The others wait, since
// launchers may end all processes as soon as one has failed, the one that speaks too.
void refuse_lost_ranks(const Launcher& launcher, int size) {
    const std::string why = lost_ranks(launcher, size);
    if (why.empty())
        return;
    if (launcher.task == 0)
        throw usage_error("{}", why);
    std::this_thread::sleep_for(std::chrono::seconds(1));
    throw Error("", ExitCode::Usage);
}

// How one rank's start-up step went, as agree() sends it to the others.
struct FailedStep {
    ExitCode code = ExitCode::Failed;
    std::string place;  // "node7", "node7, load"
    std::string message;

    // One character for the code, the place up to a zero byte, then the message. The empty string: no failure.
    std::string encode() const { return char(code) + place + '\0' + message; }
    static FailedStep decode(const std::string& text) {
        const std::size_t zero = text.find('\0', 1);
        return {ExitCode(text.at(0)), text.substr(1, zero - 1), text.substr(zero + 1)};
    }
};

std::optional<FailedStep> try_step(const std::function<void()>& step, const RankStatus& status) {
    try {
        step();
        return std::nullopt;
    } catch (...) {
        const Failure failure = current_failure();
        const Whereabouts at = status.read();
        const bool started = at.part >= RunPart::Load;  // before it nobody is surprised
        return FailedStep{failure.code, started ? status.host() + ", " + place(at) : status.host(),
                          failure.message};
    }
}

}  // namespace

#if defined(__SANITIZE_ADDRESS__)
// MPI keeps memory until the process ends, some of it from libraries that it has unloaded by then, so that no list of
// names could excuse it. Under a launcher AddressSanitizer does not look for leaks; the same code run as one rank is
// looked at.
extern "C" int __lsan_is_turned_off() { return read_launcher().speaks_mpi; }
#endif

World::World(int& argc, char**& argv)
    : host_(host_name()), exceptions_(std::uncaught_exceptions()) {
    const Launcher launcher = read_launcher();
    if (!launcher.speaks_mpi) {
        refuse_lost_ranks(launcher, 1);
        status_ = std::make_unique<RankStatus>(0, host_);
        comm_ = make_self_communicator();
        local_comm_ = make_self_communicator();
        return;
    }
    // Each communicator is used from one thread, but two of them may be used from two.
    int provided = MPI_THREAD_SINGLE;
    MPI_CHECK(MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided));
    mpi_ = true;
    MPI_CHECK(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
    CAKE_CHECK(provided == MPI_THREAD_MULTIPLE, "this MPI does not support MPI_THREAD_MULTIPLE");

    MPI_Comm all = MPI_COMM_NULL;
    MPI_CHECK(MPI_Comm_dup(MPI_COMM_WORLD, &all));
    comm_ = std::make_unique<MpiCommunicator>(all);
    if (!lost_ranks(launcher, comm_->size()).empty()) {
        const int size = comm_->size();
        comm_.reset();
        MPI_Finalize();
        refuse_lost_ranks(launcher, size);
    }

    MPI_Comm here = MPI_COMM_NULL;  // the ranks that share this host's memory
    MPI_CHECK(MPI_Comm_split_type(all, MPI_COMM_TYPE_SHARED, comm_->rank(), MPI_INFO_NULL, &here));
    local_comm_ = std::make_unique<MpiCommunicator>(here);
    status_ = std::make_unique<RankStatus>(comm_->rank(), host_);
    if (comm_->size() > 1)
        watch();
}

// From here on a rank that dies or hangs ends all.
void World::watch() {
    const auto all = comm_->split(0),
               local = local_comm_->split(0);  // of what is set up nothing counts
    watchdog_ =
        std::make_unique<Watchdog>(*status_, std::make_unique<Peers>(*status_, *all, *local),
                                   [this](int exit_code) { abort(exit_code); });
    std::vector<int> ranks = world_ranks(*all, rank()), here = world_ranks(*local, rank());
    comm_ = make_watched_communicator(std::move(comm_), *watchdog_, std::move(ranks));
    local_comm_ = make_watched_communicator(std::move(local_comm_), *watchdog_, std::move(here));
}

World::~World() {
    if (!mpi_)
        return;
    if (std::uncaught_exceptions() > exceptions_ && !failed_together_) {
        // The other ranks wait for this one in some collective; MPI_Finalize would wait for them.
        spdlog::error("an error on this rank ends all ranks");
        abort(int(ExitCode::Failed));
    }
    status_->end();
    local_comm_.reset();
    comm_.reset();
    // Nobody watches the end, which waits for all ranks.
    const double most_s =
        Watchdog::kLoadFactor * (watchdog_ ? watchdog_->deadline_s() : Watchdog::kDeadline_s);
    watchdog_.reset();
    exit_after(
        int(std::ceil(most_s)), int(ExitCode::Failed),
        "cake: error: all is done, but another rank does not come to MPI's end: it hangs, or "
        "a link is down\n");
    if (MPI_Finalize() != MPI_SUCCESS)
        spdlog::error("MPI_Finalize failed");
    cancel_exit();
}

void World::agree(const std::function<void()>& step) {
    failed_together_ = false;
    if (size() == 1) {
        failed_together_ = true;  // unless the step returns
        step();
        failed_together_ = false;
        return;
    }

    const std::optional<FailedStep> mine = try_step(step, *status_);
    const std::vector<std::string> all = comm_->gather_strings(mine ? mine->encode() : "");

    const auto failed = [](const std::string& text) { return !text.empty(); };
    const auto first = std::find_if(all.begin(), all.end(), failed);
    if (first == all.end())
        return;

    const FailedStep lowest = FailedStep::decode(*first);
    const bool all_alike = std::all_of(all.begin(), all.end(), [&](const std::string& text) {
        return failed(text) && FailedStep::decode(text).message == lowest.message;
    });
    failed_together_ = true;
    if (all_alike)
        throw Error(lowest.message, lowest.code);
    throw Error(fmt::format("rank {} on {}: {}", first - all.begin(), lowest.place, lowest.message),
                lowest.code);
}

void World::abort(int exit_code) {
    status_->claim_last_word(exit_code);
    exit_after(2, exit_code);
    spdlog::default_logger_raw()->flush();
    std::fflush(nullptr);
    if (mpi_)
        MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::_Exit(exit_code);
}

}  // namespace cake
