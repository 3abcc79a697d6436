// Decoding by captured steps: it has to be as if nothing were captured, bit for bit.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <utility>

#include <gtest/gtest.h>

#include "engine/decode.h"
#include "engine/plan.h"
#include "engine/prefill.h"
#include "kernels/cpu/draw_token.h"
#include "kernels/cuda/cuda_backend.h"
#include "support/golden.h"
#include "support/run_model.h"
#include "support/thread_comm.h"

namespace cake::test {

inline constexpr int kSteps = 44;

struct Decoded {
    std::vector<std::vector<float>> logits;    // by step, [batch, vocab]
    std::vector<std::vector<TokenId>> tokens;  // in place of these: the likeliest, or sampled ones
    std::int64_t replayed = 0;                 // steps
    Communicator::Traffic sent, among_sharers;
};

enum class Wanted { Logits, Best, Sampled };

struct DecoderSettings {
    std::string model;
    Policy policy;
    DType type = DType::F32;
    // How ranks exchange data; they are threads.
    std::function<std::unique_ptr<Communicator>(Communicator& threads, Backend& dev)> connect;
};

// Another one in each step and for each sequence; every third takes the best.
inline Draw draw_of(int step, int sequence) {
    return {.temperature = (step + sequence) % 3 == 0 ? 0 : 1.5,
            .top_k = step % 2 == 0 ? 30.0 : 0.0,
            .top_p = 0.9,
            .random = (step * 7 + sequence * 5) % 23 / 23.0};
}

// One rank of a model, and the sequences that it decodes together.
class Decoder {
public:
    Decoder(Communicator& threads, const DecoderSettings& s)
        : golden_(s.model), dev_(make_cuda_backend(0, s.type)), comm_(s.connect(threads, *dev_)) {
        plan_.model = read_model_config(golden_.model_path());
        plan_.policies = {s.policy};
        plan_.ranks = threads.size();
        plan_.prompt = 90;
        plan_.new_tokens = kSteps + 1;
        plan_.batch = 3;
        plan_.chunk = 64;
        plan_.page_tokens = 4;
        plan_.weights = s.type;
        plan_.cache = plan_.activation = plan_.residual = s.type;
        plan_.shorter = true;

        const Shard shard = shard_of(plan_.model, threads.size(), threads.rank());
        if (threads.size() > plan_.model.n_kv_heads)
            sharers_ = comm_->split(int(shard.kv_heads.begin));
        clock_.emplace(*dev_);
        rank_.emplace(
            Rank{*dev_, *comm_, &*clock_, {}, shard.shares_kv() ? sharers_.get() : nullptr});
        model_ = std::make_unique<Model>(load_model(*dev_, Checkpoint::open(golden_.model_path()),
                                                    plan_.model, shard, plan_.weights));
        ws_.emplace(*dev_, plan_.model, shard, workspace_size(plan_));
        pool_.emplace(*dev_, page_layout(plan_, shard),
                      int(plan_rank(plan_, threads.rank()).pages));
        batch_.emplace(*rank_, *model_, s.policy, *ws_);
    }

    void add(int tokens) {
        std::vector<TokenId> prompt = golden_.prompt("p300");
        prompt.resize(std::size_t(tokens));
        caches_.push_back(std::make_unique<SequenceCache>(*pool_, plan_.model.n_layers));
        std::vector<Eviction> e;
        e.emplace_back(plan_.policies[0], plan_.model.n_layers, tokens, *caches_.back());
        prefill(*rank_, *model_, prompt, e, *ws_);
        batch_->add(*caches_.back(), tokens, plan_.new_tokens, e[0].cascade.budgets());
    }
    void remove(std::size_t index) {
        batch_->remove(index);
        caches_.erase(caches_.begin() + std::ptrdiff_t(index));
    }

    Decoded run(Wanted wanted) {
        Decoded out;
        add(40);
        for (int step = 0; step < kSteps; ++step) {
            change_members(step);
            std::vector<TokenId> next;
            std::vector<Draw> draws;
            for (std::size_t i = 0; i < batch_->size(); ++i) {
                next.push_back(TokenId(7 * step + 3 * int(i) + 1));
                draws.push_back(draw_of(step, int(i)));
            }
            const auto before = comm_->traffic();
            const PhaseTimes times_before = clock_->times();
            const std::int64_t replayed_before = batch_->replayed_steps();
            Tensor logits;
            switch (wanted) {
                case Wanted::Logits: logits = batch_->step(next); break;
                case Wanted::Best: out.tokens.push_back(batch_->step_to_best(next)); break;
                case Wanted::Sampled:
                    out.tokens.push_back(batch_->step_to_sampled(next, draws));
                    break;
            }
            expect_planned_sums(comm_->traffic() - before);
            if (batch_->replayed_steps() > replayed_before)
                expect_one_phase(times_before);
            if (wanted != Wanted::Logits)
                continue;
            const auto values = logits.span<float>();
            out.logits.emplace_back(values.begin(), values.end());
        }
        out.replayed = batch_->replayed_steps();
        out.sent = comm_->traffic();
        if (sharers_)
            out.among_sharers = sharers_->traffic();
        return out;
    }

private:
    // Alone, then three, two, three again, and the last alone.
    void change_members(int step) {
        if (step == 12)
            add(17), add(25);
        if (step == 22)
            remove(1);
        if (step == 28)
            add(90);  // the longest prompt: kernels take more memory than when steps were captured
        if (step == 38)
            remove(0), remove(0);
    }

    void expect_planned_sums(const Communicator::Traffic& sent) const {
        if (comm_->size() == 1)
            return;
        const TrafficPlan planned = plan_traffic(plan_);
        EXPECT_EQ(sent.all_reduce_calls,
                  planned.all_reduces_per_token + planned.score_all_reduces_per_token);
        EXPECT_EQ(planned.all_reduces_per_token, 1 + 2 * plan_.model.n_layers);
    }

    void expect_one_phase(PhaseTimes expected) {
        const PhaseTimes& times = clock_->times();
        EXPECT_GT(times[Phase::Replay], expected[Phase::Replay]);
        expected[Phase::Replay] = times[Phase::Replay];
        EXPECT_EQ(times.seconds, expected.seconds);
    }

    Golden golden_;
    std::unique_ptr<Backend> dev_;
    std::unique_ptr<Communicator> comm_, sharers_;
    PlanInput plan_;
    std::optional<PhaseClock> clock_;
    std::optional<Rank> rank_;
    std::unique_ptr<Model> model_;
    std::optional<Workspace> ws_;
    std::optional<PagePool> pool_;
    std::optional<DecodeBatch> batch_;
    std::vector<std::unique_ptr<SequenceCache>> caches_;
};

// Rank 0's.
inline Decoded decode(int ranks, const DecoderSettings& settings, const char* graphs,
                      Wanted wanted = Wanted::Logits) {
    setenv("CAKE_GRAPHS", graphs, 1);
    Decoded out;
    run_ranks(ranks, [&](Communicator& threads) {
        Decoded mine = Decoder(threads, settings).run(wanted);
        if (threads.rank() == 0)
            out = std::move(mine);
    });
    unsetenv("CAKE_GRAPHS");
    return out;
}

inline Policy policy_named(const std::string& name) {
    if (name == "full")
        return full_policy();
    PolicyConfig c;
    c.name = name;
    c.cache_size = 24;
    if (name != "streaming")
        c.window = 8;
    return make_policy(c, {});
}

inline void expect_equal(const Communicator::Traffic& a, const Communicator::Traffic& b) {
    EXPECT_EQ(a.all_reduce_calls, b.all_reduce_calls);
    EXPECT_EQ(a.all_reduce_bytes, b.all_reduce_bytes);
    EXPECT_EQ(a.other_calls, b.other_calls);
    EXPECT_EQ(a.other_bytes, b.other_bytes);
}

inline void expect_the_same(const Decoded& captured, const Decoded& plain) {
    EXPECT_EQ(plain.replayed, 0);
    EXPECT_GE(captured.replayed, 20);
    ASSERT_EQ(captured.logits.size(), std::size_t(kSteps));
    for (int step = 0; step < kSteps; ++step)
        EXPECT_EQ(captured.logits[std::size_t(step)], plain.logits[std::size_t(step)])
            << "step " << step;
    expect_equal(captured.sent, plain.sent);
    expect_equal(captured.among_sharers, plain.among_sharers);
}

inline std::vector<TokenId> likeliest(const std::vector<float>& logits, std::size_t batch) {
    std::vector<TokenId> out;
    const auto vocab = std::ptrdiff_t(logits.size() / batch);
    for (auto row = logits.begin(); row != logits.end(); row += vocab)
        out.push_back(TokenId(std::max_element(row, row + vocab) - row));
    return out;
}

inline void expect_likeliest(const Decoded& best, const Decoded& by_logits) {
    EXPECT_GE(best.replayed, 20);
    ASSERT_EQ(best.tokens.size(), std::size_t(kSteps));
    for (std::size_t step = 0; step < best.tokens.size(); ++step)
        EXPECT_EQ(best.tokens[step], likeliest(by_logits.logits[step], best.tokens[step].size()))
            << "step " << step;
}

// The same tokens that the host draws from the logits, by draws that differ from replay to replay.
inline void expect_sampled(const Decoded& sampled, const Decoded& by_logits) {
    EXPECT_GE(sampled.replayed, 20);
    ASSERT_EQ(sampled.tokens.size(), std::size_t(kSteps));
    for (int step = 0; step < kSteps; ++step) {
        const auto& logits = by_logits.logits[std::size_t(step)];
        const auto& tokens = sampled.tokens[std::size_t(step)];
        const std::size_t vocab = logits.size() / tokens.size();
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            std::vector<Candidate> candidates;
            for (std::size_t t = 0; t < vocab; ++t)
                candidates.push_back({logits[i * vocab + t], TokenId(t)});
            EXPECT_EQ(tokens[i], draw_token(candidates, draw_of(step, int(i)))) << "step " << step;
        }
    }
    expect_equal(sampled.sent, by_logits.sent);
}

}  // namespace cake::test
