// Decoding through graphs, which here are lists of closures: as without them, bit for bit.
#include <utility>

#include <gtest/gtest.h>

#include "engine/engine.h"
#include "kernels/cuda/cuda_backend.h"
#include "simt/simt.h"
#include "support/golden.h"
#include "support/run_model.h"
#include "support/thread_comm.h"

namespace cake::test {
namespace {

// Puts collectives into the queue, as NCCL does.
class InStream final : public Communicator {
public:
    InStream(std::unique_ptr<Communicator> inner, Backend& dev, bool captured)
        : inner_(std::move(inner)), dev_(dev), captured_(captured) {}

    int rank() const override { return inner_->rank(); }
    int size() const override { return inner_->size(); }
    std::string name() const override { return "in stream"; }
    bool in_stream() const override { return captured_; }

    void all_reduce_sum(Stream s, View data) override {
        if (size() == 1)
            return;
        ++traffic_.all_reduce_calls;
        traffic_.all_reduce_bytes += std::int64_t(data.bytes());
        put(s, [this, data] { inner_->all_reduce_sum({}, data); });
    }
    void all_gather(Stream s, View part, std::span<const std::int64_t> elements,
                    View out) override {
        count_other(part.bytes());
        put(s, [this, part, out, all = std::vector(elements.begin(), elements.end())] {
            inner_->all_gather({}, part, all, out);
        });
    }
    void broadcast(Stream s, View data, int root) override {
        count_other(data.bytes());
        put(s, [this, data, root] { inner_->broadcast({}, data, root); });
    }

    void sum(std::span<double> values) override { inner_->sum(values); }
    void broadcast_bytes(std::span<std::byte> bytes, int root) override {
        inner_->broadcast_bytes(bytes, root);
    }
    std::vector<std::string> gather_strings(const std::string& mine) override {
        return inner_->gather_strings(mine);
    }
    void barrier() override { inner_->barrier(); }
    std::unique_ptr<Communicator> split(int color) override {
        return std::make_unique<InStream>(inner_->split(color), dev_, captured_);
    }

    Traffic traffic() const override { return traffic_; }
    void count_again(const Traffic& sent) override { traffic_ += sent; }
    Traffic really_sent() const { return inner_->traffic(); }

private:
    void put(Stream s, std::function<void()> work) {
        gpu::put(cuda_queue(dev_, s), std::move(work));
    }
    void count_other(std::size_t bytes) {
        if (size() == 1)
            return;
        ++traffic_.other_calls;
        traffic_.other_bytes += std::int64_t(bytes);
    }

    std::unique_ptr<Communicator> inner_;
    Backend& dev_;
    bool captured_;
    Traffic traffic_;
};

struct Decoded {
    std::vector<std::vector<float>> logits;  // by step, [batch, vocab]
    std::int64_t replayed = 0;
};

constexpr int kSteps = 24, kLeaves = 10, kComesBack = 16;

Policy policy_named(const std::string& name) {
    PolicyConfig c;
    c.name = name;
    c.cache_size = 24;
    c.window = 8;
    return make_policy(c, {});
}

// Two prompts decode together; the second leaves and, with a new cache, comes back.
Decoded decode(int ranks, const Policy& policy, bool captured) {
    Decoded out;
    run_ranks(ranks, [&](Communicator& threads) {
        const std::string path = golden_path("tiny-llama") + "/model";
        const auto dev = make_cuda_backend(0, DType::F32);
        InStream comm(threads.split(0), *dev, captured);
        PlanInput plan;
        plan.model = read_model_config(path);
        plan.policies = {policy};
        plan.ranks = ranks;
        plan.prompt = 40;
        plan.new_tokens = kSteps + 1;
        plan.batch = 2;
        plan.chunk = 64;
        plan.page_tokens = 4;
        plan.weights = DType::F32;
        plan.shorter = true;

        PhaseTimes times;
        const Shard shard = shard_of(plan.model, ranks, comm.rank());
        std::unique_ptr<Communicator> sharers;
        if (ranks > plan.model.n_kv_heads)
            sharers = comm.split(int(shard.kv_heads.begin));
        const Rank rank{*dev, comm, &times, {}, shard.shares_kv() ? sharers.get() : nullptr};
        const Model model = load_model(*dev, Checkpoint::open(path), plan.model, shard, DType::F32);
        Workspace ws(*dev, plan.model, shard, workspace_size(plan));
        PagePool pool(*dev, page_layout(plan, shard), int(plan_rank(plan, comm.rank()).pages));
        DecodeBatch batch(rank, model, policy, ws);
        std::vector<std::unique_ptr<SequenceCache>> caches;
        const auto add = [&](int tokens) {
            std::vector<TokenId> prompt = Golden("tiny-llama").prompt("p300");
            prompt.resize(std::size_t(tokens));
            caches.push_back(std::make_unique<SequenceCache>(pool, plan.model.n_layers));
            std::vector<Eviction> e;
            e.emplace_back(policy, plan.model.n_layers, tokens, *caches.back());
            prefill(rank, model, prompt, e, ws);
            batch.add(*caches.back(), tokens, plan.new_tokens, e[0].cascade.budgets());
        };
        add(40);
        add(17);

        const TrafficPlan planned = plan_traffic(plan);
        const bool one_batch_sums_no_scores = !rank.sharers && policy.heads != Heads::All;
        for (int step = 0; step < kSteps; ++step) {
            if (step == kLeaves) {
                batch.remove(1);
                caches.pop_back();
            }
            if (step == kComesBack)
                add(29);
            std::vector<TokenId> next;
            for (std::size_t i = 0; i < batch.size(); ++i)
                next.push_back(TokenId(7 * step + 3 * int(i) + 1));
            const auto before = comm.traffic();
            const Tensor logits = batch.step(next);
            const auto sent = comm.traffic() - before;
            EXPECT_EQ(sent.all_reduce_calls, planned.all_reduces_per_token);
            // Two of each layer, and the embedding's.
            if (ranks > 1 && one_batch_sums_no_scores) {
                EXPECT_EQ(sent.all_reduce_calls, 2 * plan.model.n_layers + 1);
            }
            if (comm.rank() == 0) {
                const auto values = logits.span<float>();
                out.logits.emplace_back(values.begin(), values.end());
            }
        }
        const auto counted = comm.traffic(), real = comm.really_sent();
        EXPECT_EQ(counted.all_reduce_calls, real.all_reduce_calls);
        EXPECT_EQ(counted.all_reduce_bytes, real.all_reduce_bytes);
        EXPECT_EQ(counted.other_calls, real.other_calls);
        EXPECT_EQ(counted.other_bytes, real.other_bytes);
        if (comm.rank() == 0)
            out.replayed = batch.replayed_steps();
    });
    return out;
}

void expect_equal_logits(int ranks, const std::string& name, int replayed_at_least) {
    const Policy policy = name == "full" ? full_policy() : policy_named(name);
    const Decoded captured = decode(ranks, policy, true), plain = decode(ranks, policy, false);
    EXPECT_EQ(plain.replayed, 0);
    EXPECT_GE(captured.replayed, replayed_at_least);
    ASSERT_EQ(captured.logits.size(), std::size_t(kSteps));
    for (int step = 0; step < kSteps; ++step)
        EXPECT_EQ(captured.logits[std::size_t(step)], plain.logits[std::size_t(step)])
            << name << " on " << ranks << " ranks, step " << step;
}

// 40 tokens in 10 pages of 4 become 64 in 16: tables of 10, 12, 14 and 16 pages, each with two steps that are no replays,
// and again so for a batch of one.
TEST(DecodeGraphs, GiveTheSameLogitsWhileFullCachesGrow) {
    expect_equal_logits(1, "full", 8);
    expect_equal_logits(2, "full", 8);
}

TEST(DecodeGraphs, GiveTheSameLogitsWithEviction) {
    for (const std::string name : {"cake", "h2o", "tova", "streaming"})
        expect_equal_logits(1, name, 12);
    expect_equal_logits(2, "cake", 12);
    expect_equal_logits(2, "tova", 12);
}

TEST(DecodeGraphs, HoldTheCollectivesOfRanksThatShareAHead) { expect_equal_logits(5, "cake", 12); }

}  // namespace
}  // namespace cake::test
