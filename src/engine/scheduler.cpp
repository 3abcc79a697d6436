#include "engine/scheduler.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <thread>

#include "engine/decode.h"
#include "engine/evict.h"

namespace cake {
namespace {

// A request that was admitted.
struct Running {
    Running(Request r, PagePool& pool, int n_layers, std::int64_t n_pages)
        : request(std::move(r)), cache(pool, n_layers), pages(n_pages), sampler(request.sampling) {
        sampler.seen(request.prompt);
    }

    Request request;
    SequenceCache cache;
    std::int64_t pages;  // reserved for it
    Sampler sampler;     // rank 0's is used
    Generation out;
    Timer since_start, since_first, since_token;
};

// What rank 0 has decided for a sequence, as it is sent to the others.
struct Next {
    TokenId token = 0;
    std::int32_t is_answer = 0;  // no end of sequence
    std::int32_t go_on = 0;
};

// What the group does next, as it is sent.
struct Turn {
    enum Kind : std::int32_t { Start, Step, StepToBest, StepToSampled, End, Stop } kind = End;
    bool is_step() const { return kind == Step || kind == StepToBest || kind == StepToSampled; }
    std::int32_t prompt_tokens = 0, new_tokens = 0, id_length = 0;  // of the request that starts
};

template <typename T>
void send(Communicator& comm, std::span<T> values) {
    comm.broadcast_bytes(std::as_writable_bytes(values), 0);
}

class Scheduler {
public:
    Scheduler(Engine& engine, const Feed& feed, const ServeOptions& options)
        : engine_(engine),
          feed_(feed),
          options_(options),
          model_(engine.model()),
          policy_(engine.plan().policies.front()),
          prefill_rank_(engine.rank(engine.prefill_clock())),
          decode_rank_(engine.rank(engine.decode_clock())),
          batch_(decode_rank_, model_, policy_, engine.workspace()) {}

    bool run() {
        for (;;) {
            const Turn turn = next_turn();
            switch (turn.kind) {
                case Turn::Start:
                    if (!start(admit(turn)))
                        return false;
                    break;
                case Turn::Step:
                case Turn::StepToBest:
                case Turn::StepToSampled: step(turn.kind); break;
                case Turn::End: return true;
                case Turn::Stop: return false;
            }
        }
    }

private:
    bool decides() const { return engine_.comm().rank() == 0; }
    Turn next_turn();
    std::int64_t pages_of(int prompt_tokens, int new_tokens) const;
    bool fits(const Request& request) const;
    bool has_arrived() const { return since_serve_.seconds() >= waiting_->not_before_s; }
    void wait_for_arrival() const;
    std::unique_ptr<Running> admit(const Turn& turn);
    bool start(std::unique_ptr<Running> sequence);
    bool between_layers();
    Turn::Kind kind_of_step() const;
    void step(Turn::Kind kind);
    std::vector<TokenId> sample(std::span<Running* const> sequences, const Tensor& logits);
    std::vector<Next> decide(std::span<Running* const> sequences, std::span<const TokenId> tokens);
    void take(std::span<Running* const> sequences, std::span<const TokenId> tokens);
    void retire(std::size_t index);
    void account_held(const Request& newest);
    void account_prompt(int prompt_tokens);
    void account_step();
    std::vector<LayerResult> layer_results(const SequenceCache& cache, const Eviction& e) const;

    Engine& engine_;
    const Feed& feed_;
    const ServeOptions& options_;
    const Model& model_;
    const Policy& policy_;
    Rank prefill_rank_, decode_rank_;
    DecodeBatch batch_;
    std::vector<std::unique_ptr<Running>> running_;  // in the order of the batch
    std::optional<Request> waiting_;  // rank 0's: the next, for which there was no room
    bool exhausted_ = false;
    std::int64_t reserved_ = 0;  // pages
    double interleaved_s_ = 0;   // decode steps within the prefill at hand
    Timer since_step_, since_serve_;
};

// Pages that a request takes, from admission to its end.
std::int64_t Scheduler::pages_of(int prompt_tokens, int new_tokens) const {
    return pages_needed(policy_, model_.config.n_layers, prompt_tokens, new_tokens,
                        engine_.pool().layout());
}

bool Scheduler::fits(const Request& request) const {
    const std::int64_t needed = pages_of(int(request.prompt.size()), request.max_new_tokens);
    return int(running_.size()) < engine_.plan().batch &&
           reserved_ + needed <= engine_.pool().n_pages();
}

// Nothing runs, and the next request comes later.
void Scheduler::wait_for_arrival() const {
    while (!has_arrived() && !(feed_.stopped && feed_.stopped())) {
        prefill_rank_.at(RunPart::Input, -1);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

Turn Scheduler::next_turn() {
    Turn turn;
    if (decides()) {
        if (!waiting_ && !exhausted_ && int(running_.size()) < engine_.plan().batch) {
            waiting_ = feed_.next();
            exhausted_ = !waiting_;
        }
        if (waiting_ && running_.empty())
            wait_for_arrival();
        if (!waiting_ && running_.empty())
            turn.kind = Turn::End;
        else if (feed_.stopped && feed_.stopped())
            turn.kind = Turn::Stop;
        else if (waiting_ && has_arrived() && (running_.empty() || fits(*waiting_)))
            turn = {Turn::Start, int(waiting_->prompt.size()), waiting_->max_new_tokens,
                    int(waiting_->id.size())};
        else
            turn.kind = kind_of_step();
    }
    send(engine_.comm(), std::span(&turn, 1));
    return turn;
}

// The request on every rank: who does not sample needs id, prompt and length.
std::unique_ptr<Running> Scheduler::admit(const Turn& turn) {
    Request request;
    double queued_s = 0;
    if (decides()) {
        request = *std::exchange(waiting_, std::nullopt);
        queued_s = since_serve_.seconds() - request.not_before_s;
    }
    request.id.resize(std::size_t(turn.id_length));
    request.prompt.resize(std::size_t(turn.prompt_tokens));
    request.max_new_tokens = turn.new_tokens;
    send(engine_.comm(), std::span(request.id));
    send(engine_.comm(), std::span(request.prompt));

    const PlanInput& plan = engine_.plan();
    CAKE_CHECK(turn.prompt_tokens <= plan.prompt && turn.new_tokens <= plan.new_tokens &&
                   (plan.shorter || turn.prompt_tokens == plan.prompt),
               "a prompt of {} and {} new tokens, planned for {} and {}", turn.prompt_tokens,
               turn.new_tokens, plan.prompt, plan.new_tokens);
    const std::int64_t pages = pages_of(turn.prompt_tokens, turn.new_tokens);
    CAKE_CHECK(reserved_ + pages <= engine_.pool().n_pages(), "{} pages of {}, {} are reserved",
               pages, engine_.pool().n_pages(), reserved_);
    reserved_ += pages;
    auto running = std::make_unique<Running>(std::move(request), engine_.pool(),
                                             model_.config.n_layers, pages);
    running->out.timings.queued_s = queued_s;
    return running;
}

// Other sequences go on while a long prompt passes. False where all is to stop.
bool Scheduler::between_layers() {
    Turn turn;
    if (decides()) {
        if (feed_.stopped && feed_.stopped())
            turn.kind = Turn::Stop;
        else if (!running_.empty() && 1e3 * since_step_.seconds() >= options_.interleave_ms)
            turn.kind = kind_of_step();
    }
    send(engine_.comm(), std::span(&turn, 1));
    if (turn.is_step()) {
        const Timer timer;
        step(turn.kind);
        interleaved_s_ += timer.seconds();
    }
    return turn.kind != Turn::Stop;
}

bool Scheduler::start(std::unique_ptr<Running> sequence) {
    Running& s = *sequence;
    const int S = int(s.request.prompt.size()), L = model_.config.n_layers;
    interleaved_s_ = 0;
    account_held(s.request);
    std::vector<Eviction> evictions;
    evictions.emplace_back(policy_, L, S, s.cache);
    PrefillOptions prefill_options = options_.prefill;
    if (feed_.stopped || !running_.empty())
        prefill_options.after_layer = [this](int) { return between_layers(); };
    const Tensor logits = prefill(prefill_rank_, model_, s.request.prompt, evictions,
                                  engine_.workspace(), prefill_options);  // [1, vocab]
    if (!logits)
        return false;
    s.out.timings.prefill_s = s.since_start.seconds() - interleaved_s_;
    engine_.prefill_clock().times().total_s += s.out.timings.prefill_s;
    s.out.evicted = evictions[0].cascade.evicts();
    if (options_.layers)
        s.out.layers = layer_results(s.cache, evictions[0]);

    batch_.add(s.cache, S, s.request.max_new_tokens, evictions[0].cascade.budgets());
    running_.push_back(std::move(sequence));
    account_prompt(S);
    Running* newest = running_.back().get();
    const Timer timer;
    const std::span sequences(&newest, 1);
    if (decides() && newest->request.first_is_answer)
        for (const TokenId id : newest->request.end_of_sequence)
            logits.span<float>()[std::size_t(id)] = -std::numeric_limits<float>::infinity();
    take(sequences, sample(sequences, logits));  // booked to decoding, as all sampling
    engine_.decode_clock().times().total_s += timer.seconds();
    return true;
}

// Tokens are chosen on the device, but where one of the sequences asks for more than it knows: then logits reach the host.
Turn::Kind Scheduler::kind_of_step() const {
    const auto of_all = [&](auto says) {
        return std::all_of(running_.begin(), running_.end(),
                           [&](const auto& r) { return says(r->sampler); });
    };
    if (of_all([](const Sampler& s) { return s.takes_best(); }))
        return Turn::StepToBest;
    const bool on_device = model_.config.vocab <= most_sampled_from &&
                           of_all([](const Sampler& s) { return !s.needs_logits(); });
    return on_device ? Turn::StepToSampled : Turn::Step;
}

// One token for every sequence of the batch.
void Scheduler::step(Turn::Kind kind) {
    Timer timer;
    std::vector<TokenId> tokens, next;
    std::vector<Running*> sequences;
    std::vector<Draw> draws;  // rank 0's are used
    for (const auto& r : running_) {
        tokens.push_back(r->out.tokens.back());
        sequences.push_back(r.get());
        if (kind == Turn::StepToSampled)
            draws.push_back(r->sampler.next_draw());
    }
    if (kind == Turn::StepToBest)
        next = batch_.step_to_best(tokens);
    else if (kind == Turn::StepToSampled)
        next = batch_.step_to_sampled(tokens, draws);
    else
        next = sample(sequences, batch_.step(tokens));
    account_step();
    take(sequences, next);
    engine_.decode_clock().times().total_s += timer.seconds();
    since_step_ = Timer();
}

// Before its prompt passes: while it does, others may end.
void Scheduler::account_held(const Request& newest) {
    const auto tokens = [](const Request& r) {
        return std::int64_t(r.prompt.size()) + r.max_new_tokens;
    };
    std::int64_t held = tokens(newest);
    for (const auto& r : running_)
        held += tokens(r->request);
    std::int64_t& peak = engine_.work().full_tokens_peak;
    peak = std::max(peak, held);
}

void Scheduler::account_prompt(int prompt_tokens) {
    Work& work = engine_.work();
    work.prompt_tokens += prompt_tokens;
    work.prefill_flops += prefill_flops(model_.config, prompt_tokens);
}

void Scheduler::account_step() {
    Work& work = engine_.work();
    ++work.decode_steps;
    work.step_tokens += std::int64_t(running_.size());
    std::vector<const SequenceCache*> caches;
    for (const auto& r : running_)
        caches.push_back(&r->cache);
    work.decode_bytes += step_bytes(engine_, caches);
}

// Rank 0 samples, by logits [sequences, vocab], and decides, so that no rounding can let ranks disagree.
std::vector<TokenId> Scheduler::sample(std::span<Running* const> sequences, const Tensor& logits) {
    std::vector<TokenId> tokens(sequences.size());
    if (decides()) {
        auto t = decode_rank_.time(Phase::Sampling);
        for (std::size_t i = 0; i < tokens.size(); ++i)
            tokens[i] =
                sequences[i]->sampler.sample(logits.view().row(std::int64_t(i)).span<float>());
    }
    return tokens;
}

std::vector<Next> Scheduler::decide(std::span<Running* const> sequences,
                                    std::span<const TokenId> tokens) {
    std::vector<Next> next(sequences.size());
    if (decides()) {
        for (std::size_t i = 0; i < next.size(); ++i) {
            Running& s = *sequences[i];
            const auto& eos = s.request.end_of_sequence;
            Next& n = next[i];
            n.token = tokens[i];
            n.is_answer = std::find(eos.begin(), eos.end(), n.token) == eos.end();
            n.go_on = n.is_answer && (!feed_.on_token || feed_.on_token(s.request, n.token));
        }
    }
    send(engine_.comm(), std::span(next));
    return next;
}

// Each sequence takes its next token, which rank 0 has; those that end with it leave.
void Scheduler::take(std::span<Running* const> sequences, std::span<const TokenId> tokens) {
    const std::vector<Next> next = decide(sequences, tokens);
    std::vector<Running*> over;
    for (std::size_t i = 0; i < next.size(); ++i) {
        Running& s = *sequences[i];
        if (s.out.tokens.empty()) {
            s.out.timings.ttft_s = s.since_start.seconds();
            s.since_first = Timer();
        } else {
            s.out.timings.inter_token_ms.push_back(1e3 * s.since_token.seconds());
        }
        s.since_token = Timer();
        if (next[i].is_answer) {
            s.out.tokens.push_back(next[i].token);
            if (s.sampler.logprobs())
                s.out.logprobs.push_back(*s.sampler.logprobs());
        }
        if (!next[i].go_on)
            s.out.finish_reason = "stop";
        else if (int(s.out.tokens.size()) == s.request.max_new_tokens)
            s.out.finish_reason = "length";
        if (!s.out.finish_reason.empty())
            over.push_back(&s);
    }
    for (const Running* s : over)
        retire(std::size_t(std::find_if(running_.begin(), running_.end(),
                                        [s](const auto& r) { return r.get() == s; }) -
                           running_.begin()));
}

void Scheduler::retire(std::size_t index) {
    const std::unique_ptr<Running> s = std::move(running_[index]);
    running_.erase(running_.begin() + std::ptrdiff_t(index));
    batch_.remove(index);
    if (options_.prefill.check)
        check_equal_copies(decode_rank_, policy_, s->cache);
    s->out.timings.decode_s = s->since_first.seconds();
    engine_.work().new_tokens += std::int64_t(s->out.tokens.size());
    s->cache.clear();
    reserved_ -= s->pages;
    feed_.done(s->request, std::move(s->out));
}

// A KV head that ranks share is its owner's to report.
std::vector<LayerResult> Scheduler::layer_results(const SequenceCache& cache,
                                                  const Eviction& e) const {
    std::vector<LayerResult> out;
    for (int l = 0; l < cache.n_layers(); ++l) {
        LayerResult r;
        r.seen = e.seen[std::size_t(l)];
        r.kept = cache.length(l);
        r.budget = e.cascade.evicts() ? e.cascade.budgets()[std::size_t(l)] : r.kept;
        if (model_.shard.owns_kv())
            r.positions = cache.positions(prefill_rank_.dev, prefill_rank_.stream, l);
        out.push_back(std::move(r));
    }
    return out;
}

}  // namespace

bool serve(Engine& engine, const Feed& feed, const ServeOptions& options) {
    return Scheduler(engine, feed, options).run();
}

}  // namespace cake
