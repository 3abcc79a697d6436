#include "cli/batch_serve.h"

#include <numeric>
#include <unordered_map>

#include <spdlog/spdlog.h>

#include "cli/text_stream.h"
#include "engine/request_report.h"
#include "engine/scheduler.h"

namespace cake {
namespace {

using nlohmann::json;

// What the ranks of a replica do with requests; `port` is the leader's.
class Replica {
public:
    Replica(Engine& engine, const BatchRun& run, JobPort port, RankStatus& status)
        : engine_(engine), run_(run), port_(std::move(port)), status_(status) {
        if (run.tokenizer && !run.config.generation.ignore_eos)
            end_of_sequence_ = run.tokenizer->end_of_sequence();
    }

    Feed feed() {
        return {.next = [this] { return next(); },
                .on_token = [this](const Request& r, TokenId id) { return on_token(r, id); },
                .done = [this](const Request& r, const Generation& g) { done(r, g); },
                .stopped = [this] { return stopped(); }};
    }

private:
    std::optional<Request> next() {
        auto job = port_.take();
        if (!job)
            return {};
        texts_.try_emplace(job->request.id, run_.tokenizer, job->stop, nullptr);
        auto& ends = job->request.end_of_sequence;  // the job's own, and the model's
        ends.insert(ends.end(), end_of_sequence_.begin(), end_of_sequence_.end());
        return std::move(job->request);
    }

    bool on_token(const Request& request, TokenId id) {
        port_.token();
        return texts_.at(request.id).take(id);
    }

    void done(const Request& request, const Generation& generation) {
        status_.at(RunPart::Write);
        spdlog::debug("job {}: {} tokens in, {} out", request.id, request.prompt.size(),
                      generation.tokens.size());
        const bool leads = engine_.comm().rank() == 0;
        const std::string text = leads && run_.tokenizer ? texts_.at(request.id).finish() : "";
        json result = request_json(engine_, request, generation, text);
        if (!leads)
            return;
        if (!run_.layers)
            result.erase("layers");
        texts_.erase(request.id);
        port_.finish(result, generation.timings.inter_token_ms);
    }

    bool stopped() {
        if (!run_.signals.came())
            return false;
        port_.stop();
        return true;
    }

    Engine& engine_;
    const BatchRun& run_;
    JobPort port_;
    RankStatus& status_;
    std::vector<TokenId> end_of_sequence_;
    std::unordered_map<std::string, TextStream> texts_;  // by id, of jobs that run
};

}  // namespace

bool serve_jobs(World& world, Engine& engine, const BatchRun& run,
                std::optional<JobServer>& server) {
    const int replicas = world.size() / engine.comm().size();
    std::optional<Mailbox> mailbox;
    if (replicas > 1)
        mailbox.emplace();
    std::optional<JobService> service;
    std::optional<RemoteJobs> remote;
    JobPort port;
    if (server) {
        if (replicas > 1)
            service.emplace(*server, *mailbox, replicas - 1);
        port = server->port();
    } else if (engine.comm().rank() == 0) {
        port = remote.emplace(*mailbox, sampling_of(run.config), *world.watchdog()).port();
    }

    Replica replica(engine, run, std::move(port), world.status());
    bool all_served = serve(engine, replica.feed(),
                            {.interleave_ms = run.config.engine.interleave,
                             .layers = run.layers,
                             .prefill = {.check = run.config.check}});
    if (remote)
        remote->goodbye();
    if (replicas > 1) {
        std::vector<int> ranks(std::size_t(world.size()));
        std::iota(ranks.begin(), ranks.end(), 0);
        Watchdog::Group& all = world.watchdog()->group(std::move(ranks));
        if (service) {
            const Waiting waiting(*world.watchdog(), all, Call::Replicas);
            service->wait();
        }
    }
    for (const std::string& theirs : world.comm().gather_strings(all_served ? "" : "stopped"))
        all_served = all_served && theirs.empty();
    return all_served;
}

}  // namespace cake
