// The one list of jobs of a batch and its one file of results, shared by the leaders (rank 0) of all replicas.
#pragma once

#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/progress.h"
#include "base/timer.h"
#include "cli/batch_jobs.h"
#include "cli/batch_summary.h"
#include "cli/time_limit.h"
#include "comm/mailbox.h"
#include "comm/watchdog.h"

namespace cake {

// How a leader reaches the jobs: on rank 0 of all ranks directly, elsewhere by messages.
struct JobPort {
    std::function<std::optional<BatchJob>()> take;
    std::function<void(const nlohmann::json& result, const std::vector<double>& inter_token_ms)>
        finish;
    std::function<void()> token = [] {};  // one more has come
    std::function<void()> stop;           // no more jobs for anybody
    std::vector<TokenId> end_of_sequence = {};
};

// Lives on rank 0. Its functions may be called from several threads.
class JobServer {
public:
    // `keep`: results are held for a report. `quiet`: no progress.
    JobServer(std::vector<BatchJob> jobs, ResultWriter& results, std::string policy, bool keep,
              bool quiet);
    JobPort port();

    // The next job, in the order of the file; those that cannot be done get their results here. Nothing: none is left.
    std::optional<BatchJob> take();
    // Writes a result. Throws where it cannot be written, then and ever after.
    void finish(nlohmann::json result, const std::vector<double>& inter_token_ms);
    // A signal came: take() gives nothing more.
    void stop();
    // From then on take() gives nothing more. Jobs that were not begun for that reason: not_begun().
    void take_none_after(WallClock::time_point time) { last_take_ = time; }
    std::int64_t not_begun() const { return not_begun_; }
    // Tokens that have come, for the speed that progress shows.
    void count_tokens(std::int64_t n);

    // Removes the bar.
    void close() { bar_.finish(); }
    // Notes what went wrong in another thread; check() throws it.
    void fail(std::exception_ptr failure);
    void check();
    const BatchSummary& summary() const { return summary_; }
    const nlohmann::json& kept() const { return kept_; }
    double seconds() const { return timer_.seconds(); }

private:
    void write(nlohmann::json result, const std::vector<double>& inter_token_ms);
    void show();

    std::mutex mutex_;
    std::deque<BatchJob> jobs_;
    ResultWriter& results_;
    std::string policy_;
    bool keep_, quiet_;
    std::int64_t total_, running_ = 0, tokens_ = 0;
    Timer timer_;
    double logged_s_ = 0;
    Progress bar_;
    std::optional<WallClock::time_point> last_take_;
    std::int64_t not_begun_ = 0;
    BatchSummary summary_;
    nlohmann::json kept_ = nlohmann::json::array();
    std::exception_ptr failure_;
};

// "12 of 60 done, 3 running, 41.2 tokens/s, 3:20 left", after `elapsed_s` seconds.
std::string batch_line(std::int64_t done, std::int64_t total, std::int64_t running,
                       std::int64_t tokens, double elapsed_s);

// Answers other ranks' leaders from a thread of its own, so that none waits for what rank 0 computes.
class JobService {
public:
    JobService(JobServer& server, Mailbox& mailbox, int clients);
    // Until all clients have said goodbye. Throws what went wrong meanwhile.
    void wait();

private:
    void serve(std::stop_token stop);

    JobServer& server_;
    Mailbox& mailbox_;
    int clients_;
    std::jthread thread_;
};

// The same on another rank.
class RemoteJobs {
public:
    // `common`: of all jobs (decode_job). `watchdog` is told when it waits for rank 0.
    RemoteJobs(Mailbox& mailbox, const Sampling& common, Watchdog& watchdog)
        : mailbox_(mailbox), common_(common), watchdog_(watchdog), rank_0_(watchdog.group({0})) {}

    JobPort port();
    std::optional<BatchJob> take();
    void finish(const nlohmann::json& result, const std::vector<double>& inter_token_ms);
    void stop();
    void goodbye();

private:
    void send(const std::string& bytes);

    Mailbox& mailbox_;
    Sampling common_;
    Watchdog& watchdog_;
    Watchdog::Group& rank_0_;
    bool stopped_ = false;
};

}  // namespace cake
