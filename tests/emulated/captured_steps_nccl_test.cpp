// Decoding by captured steps on emulated GPUs, whose ranks speak over NCCL's stand-in: a graph is a list of closures,
// collectives among them. It has to be as if nothing were captured, bit for bit.
#include <algorithm>
#include <cstdlib>
#include <utility>

#include <gtest/gtest.h>

#include "comm/nccl.h"
#include "engine/decode.h"
#include "engine/plan.h"
#include "engine/prefill.h"
#include "kernels/cpu/draw_token.h"
#include "kernels/cuda/cuda_backend.h"
#include "simt/simt.h"
#include "support/fake_nccl/fake_nccl.h"
#include "support/golden.h"
#include "support/run_model.h"
#include "support/thread_comm.h"

namespace cake::test {
namespace {

constexpr int kSteps = 44;

struct Decoded {
    std::vector<std::vector<float>> logits;    // by step, [batch, vocab]
    std::vector<std::vector<TokenId>> tokens;  // in place of these: the likeliest, or sampled ones
    std::int64_t replayed = 0;                 // steps
    Communicator::Traffic sent, among_sharers;
    std::size_t calls = 0;  // of NCCL, that have run
};

enum class Wanted { Logits, Best, Sampled };

// Another one in each step and for each sequence; every third takes the best.
Draw draw_of(int step, int sequence) {
    return {.temperature = (step + sequence) % 3 == 0 ? 0 : 1.5,
            .top_k = step % 2 == 0 ? 30.0 : 0.0,
            .top_p = 0.9,
            .random = (step * 7 + sequence * 5) % 23 / 23.0};
}

// One rank of a model, and the sequences that it decodes together.
class Decoder {
public:
    Decoder(Communicator& threads, const std::string& model, const Policy& policy)
        : golden_(model), dev_(make_cuda_backend(0, DType::F32)) {
        use_fake_gpu(threads.rank());
        comm_ = make_nccl_communicator(
            threads.split(0), {.cuda_stream = [this](Stream s) { return cuda_queue(*dev_, s); }});
        plan_.model = read_model_config(golden_.model_path());
        plan_.policies = {policy};
        plan_.ranks = threads.size();
        plan_.prompt = 90;
        plan_.new_tokens = kSteps + 1;
        plan_.batch = 3;
        plan_.chunk = 64;
        plan_.page_tokens = 4;
        plan_.weights = DType::F32;
        plan_.shorter = true;

        const Shard shard = shard_of(plan_.model, threads.size(), threads.rank());
        if (threads.size() > plan_.model.n_kv_heads)
            sharers_ = comm_->split(int(shard.kv_heads.begin));
        clock_.emplace(*dev_);
        rank_.emplace(
            Rank{*dev_, *comm_, &*clock_, {}, shard.shares_kv() ? sharers_.get() : nullptr});
        model_ = std::make_unique<Model>(load_model(*dev_, Checkpoint::open(golden_.model_path()),
                                                    plan_.model, shard, DType::F32));
        ws_.emplace(*dev_, plan_.model, shard, workspace_size(plan_));
        pool_.emplace(*dev_, page_layout(plan_, shard),
                      int(plan_rank(plan_, threads.rank()).pages));
        batch_.emplace(*rank_, *model_, policy, *ws_);
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
Decoded decode(int ranks, const std::string& model, const Policy& policy, const char* graphs,
               Wanted wanted = Wanted::Logits) {
    setenv("CAKE_GRAPHS", graphs, 1);
    change_fake_nccl([](FakeNccl& fake) {
        fake = {};
        fake.put = [](CUstream_st* queue, std::function<void()> work) {
            gpu::put(queue, std::move(work));
        };
    });
    Decoded out;
    run_ranks(ranks, [&](Communicator& threads) {
        Decoded mine = Decoder(threads, model, policy).run(wanted);
        if (threads.rank() == 0)
            out = std::move(mine);
    });
    out.calls = fake_nccl().calls.size();
    change_fake_nccl([](FakeNccl& fake) { fake = {}; });
    unsetenv("CAKE_GRAPHS");
    return out;
}

Policy policy_named(const std::string& name) {
    if (name == "full")
        return full_policy();
    PolicyConfig c;
    c.name = name;
    c.cache_size = 24;
    if (name != "streaming")
        c.window = 8;
    return make_policy(c, {});
}

void expect_equal(const Communicator::Traffic& a, const Communicator::Traffic& b) {
    EXPECT_EQ(a.all_reduce_calls, b.all_reduce_calls);
    EXPECT_EQ(a.all_reduce_bytes, b.all_reduce_bytes);
    EXPECT_EQ(a.other_calls, b.other_calls);
    EXPECT_EQ(a.other_bytes, b.other_bytes);
}

void expect_the_same_captured(int ranks, const std::string& model, const std::string& policy,
                              int replayed_at_least) {
    SCOPED_TRACE(fmt::format("{} with {} on {} ranks", model, policy, ranks));
    const Decoded captured = decode(ranks, model, policy_named(policy), "1"),
                  plain = decode(ranks, model, policy_named(policy), "0");
    EXPECT_EQ(plain.replayed, 0);
    EXPECT_GE(captured.replayed, replayed_at_least);
    ASSERT_EQ(captured.logits.size(), std::size_t(kSteps));
    for (int step = 0; step < kSteps; ++step)
        EXPECT_EQ(captured.logits[std::size_t(step)], plain.logits[std::size_t(step)])
            << "step " << step;
    EXPECT_EQ(captured.calls, plain.calls);  // have run
    expect_equal(captured.sent, plain.sent);
    expect_equal(captured.among_sharers, plain.among_sharers);
}

std::vector<TokenId> likeliest(const std::vector<float>& logits, std::size_t batch) {
    std::vector<TokenId> out;
    const auto vocab = std::ptrdiff_t(logits.size() / batch);
    for (auto row = logits.begin(); row != logits.end(); row += vocab)
        out.push_back(TokenId(std::max_element(row, row + vocab) - row));
    return out;
}

class CapturedSteps : public testing::TestWithParam<int> {};

// 40 tokens in 10 pages of 4 become 84 in 21, so tables are 10, 12, 14, 16, 20 and 24 pages wide, in batches of 1 to 3.
TEST_P(CapturedSteps, GiveTheSameLogitsWhileFullCachesGrow) {
    expect_the_same_captured(GetParam(), "tiny-llama", "full", 20);
}

TEST_P(CapturedSteps, GiveTheSameLogitsWhileCakeEvicts) {
    expect_the_same_captured(GetParam(), "tiny-llama", "cake", 20);
}

TEST_P(CapturedSteps, GiveTheSameLogitsWithRunningSums) {
    expect_the_same_captured(GetParam(), "tiny-llama", "h2o", 20);
}

TEST_P(CapturedSteps, GiveTheSameLogitsWhereNothingIsObserved) {
    expect_the_same_captured(GetParam(), "tiny-llama", "streaming", 20);
}

// Where ranks sum what they observed, a change of members is another message.
TEST_P(CapturedSteps, GiveTheSameLogitsWhereRanksSumScores) {
    expect_the_same_captured(GetParam(), "tiny-llama", "tova", 20);
}

// One number of each sequence and rank crosses the ranks in place of all logits.
TEST_P(CapturedSteps, FindTheLikeliestTokens) {
    const Policy policy = policy_named("h2o");
    const Decoded by_logits = decode(GetParam(), "tiny-llama", policy, "1"),
                  best = decode(GetParam(), "tiny-llama", policy, "1", Wanted::Best);
    EXPECT_GE(best.replayed, 20);
    ASSERT_EQ(best.tokens.size(), std::size_t(kSteps));
    for (std::size_t step = 0; step < best.tokens.size(); ++step)
        EXPECT_EQ(best.tokens[step], likeliest(by_logits.logits[step], best.tokens[step].size()))
            << "step " << step;
    EXPECT_EQ(best.sent.other_calls, by_logits.sent.other_calls);
    if (GetParam() > 1) {
        EXPECT_LT(best.sent.other_bytes, by_logits.sent.other_bytes);
    }
}

// The same tokens that the host draws from the logits, by draws that differ from replay to replay.
TEST_P(CapturedSteps, SampleTokens) {
    const Policy policy = policy_named("cake");
    const Decoded by_logits = decode(GetParam(), "tiny-llama", policy, "1"),
                  sampled = decode(GetParam(), "tiny-llama", policy, "1", Wanted::Sampled);
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

INSTANTIATE_TEST_SUITE_P(, CapturedSteps, testing::Values(1, 2),
                         [](const auto& info) { return fmt::format("On{}", info.param); });

TEST(CapturedStepsOfSharers, GiveTheSameLogits) {
    expect_the_same_captured(3, "tiny-qwen2", "cake", 20);
}

}  // namespace
}  // namespace cake::test
