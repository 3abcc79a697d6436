#include "cli/job_server.h"

#include <chrono>

#include <spdlog/spdlog.h>

namespace cake {
namespace {

using nlohmann::json;

constexpr double kLogEvery_s = 60;

// The first byte of what a client sends; the answer to Take is a job, or nothing.
enum Word : char { Take = 'T', Finish = 'F', Goodbye = 'G', Stop = 'S' };

}  // namespace

std::string batch_line(std::int64_t done, std::int64_t total, std::int64_t running,
                       std::int64_t tokens, double elapsed_s) {
    std::string line = fmt::format("{} of {} done, {} running, {:.1f} tokens/s", done, total,
                                   running, elapsed_s > 0 ? double(tokens) / elapsed_s : 0);
    if (done > 0)
        line += fmt::format(", {} left", duration(elapsed_s / double(done) * double(total - done)));
    return line;
}

JobServer::JobServer(std::vector<BatchJob> jobs, ResultWriter& results, std::string policy,
                     bool keep, bool quiet)
    : jobs_(std::make_move_iterator(jobs.begin()), std::make_move_iterator(jobs.end())),
      results_(results),
      policy_(std::move(policy)),
      keep_(keep),
      quiet_(quiet),
      total_(std::int64_t(jobs_.size())),
      bar_("jobs", total_, !quiet) {}

JobPort JobServer::port() {
    return {
        .take = [this] { return take(); },
        .finish = [this](const json& result, const std::vector<double>& ms) { finish(result, ms); },
        .token =
            [this] {
                check();
                count_tokens(1);
            },
        .stop = [this] { stop(); }};
}

std::optional<BatchJob> JobServer::take() {
    const std::scoped_lock lock(mutex_);
    if (last_take_ && WallClock::now() >= *last_take_) {
        not_begun_ += std::int64_t(jobs_.size());
        jobs_.clear();
    }
    while (!jobs_.empty()) {
        BatchJob job = std::move(jobs_.front());
        jobs_.pop_front();
        if (job.error.empty()) {
            ++running_;
            return job;
        }
        spdlog::warn("job {}: {}", job.request.id, job.error);
        if (job.refused) {
            summary_.add_refused();
            continue;
        }
        write({{"id", job.request.id},
               {"text", ""},
               {"tokens", json::array()},
               {"prompt_tokens", job.request.prompt.size()},
               {"output_tokens", 0},
               {"finish_reason", "error"},
               {"error", job.error},
               {"timings", nullptr}},
              {});
    }
    return {};
}

void JobServer::finish(json result, const std::vector<double>& inter_token_ms) {
    const std::scoped_lock lock(mutex_);
    --running_;
    write(std::move(result), inter_token_ms);
}

void JobServer::write(json result, const std::vector<double>& inter_token_ms) {
    if (failure_)
        std::rethrow_exception(failure_);
    result["policy"] = policy_;
    try {
        results_.write(result);
    } catch (...) {
        failure_ = std::current_exception();
        throw;
    }
    summary_.add(result, inter_token_ms);
    if (keep_)
        kept_.push_back(std::move(result));
    show();
}

void JobServer::stop() {
    const std::scoped_lock lock(mutex_);
    jobs_.clear();
}

void JobServer::count_tokens(std::int64_t n) {
    const std::scoped_lock lock(mutex_);
    tokens_ += n;
    show();
}

// In a terminal a line that is drawn over itself, in a log one line a minute.
void JobServer::show() {
    const double now_s = timer_.seconds();
    bar_.update(summary_.jobs(),
                fmt::format(", {} running, {:.1f} tokens/s", running_, double(tokens_) / now_s));
    if (quiet_ || progress_is_watched() || now_s - logged_s_ < kLogEvery_s)
        return;
    logged_s_ = now_s;
    spdlog::info(batch_line(summary_.jobs(), total_, running_, tokens_, now_s));
}

void JobServer::fail(std::exception_ptr failure) {
    const std::scoped_lock lock(mutex_);
    failure_ = failure;
}

void JobServer::check() {
    const std::scoped_lock lock(mutex_);
    if (failure_)
        std::rethrow_exception(failure_);
}

JobService::JobService(JobServer& server, Mailbox& mailbox, int clients)
    : server_(server),
      mailbox_(mailbox),
      clients_(clients),
      thread_([this](std::stop_token stop) { serve(stop); }) {}

void JobService::serve(std::stop_token stop) {
    while (clients_ > 0 && !stop.stop_requested()) {
        const auto message = mailbox_.poll();
        if (!message) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
            continue;
        }
        try {
            switch (message->bytes.at(0)) {
                case Take: {
                    const auto job = server_.take();
                    mailbox_.send(message->from, job ? encode_job(*job) : "");
                    break;
                }
                case Finish: {
                    json said = json::from_cbor(message->bytes.begin() + 1, message->bytes.end());
                    server_.count_tokens(said["result"]["output_tokens"]);
                    server_.finish(std::move(said["result"]), said["inter_token_ms"]);
                    break;
                }
                case Goodbye: --clients_; break;
                case Stop: server_.stop(); break;
            }
        } catch (...) {
            server_.fail(std::current_exception());
            return;
        }
    }
}

void JobService::wait() {
    thread_.join();
    server_.check();
}

JobPort RemoteJobs::port() {
    return {
        .take = [this] { return take(); },
        .finish = [this](const json& result, const std::vector<double>& ms) { finish(result, ms); },
        .stop = [this] { stop(); }};
}

std::optional<BatchJob> RemoteJobs::take() {
    send(std::string(1, Take));
    const Waiting waiting(watchdog_, rank_0_, Call::Message);
    const std::string job = mailbox_.wait().bytes;
    if (job.empty())
        return {};
    return decode_job(job, common_);
}

void RemoteJobs::send(const std::string& bytes) {
    const Waiting waiting(watchdog_, rank_0_, Call::Message);
    mailbox_.send(0, bytes);
}

void RemoteJobs::finish(const json& result, const std::vector<double>& inter_token_ms) {
    std::string bytes(1, Finish);
    json::to_cbor({{"result", result}, {"inter_token_ms", inter_token_ms}}, bytes);
    send(bytes);
}

void RemoteJobs::stop() {
    if (!std::exchange(stopped_, true))
        send(std::string(1, Stop));
}

void RemoteJobs::goodbye() { send(std::string(1, Goodbye)); }

}  // namespace cake
