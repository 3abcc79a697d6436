// Prefill where sums over ranks are made beside computing: GPUs and NCCL, both emulated.
#include <algorithm>

#include <gmock/gmock.h>

#include "comm/nccl.h"
#include "engine/engine.h"
#include "kernels/cuda/cuda_backend.h"
#include "simt/queues.h"
#include "simt/simt.h"
#include "support/backends.h"
#include "support/fake_nccl/fake_nccl.h"
#include "support/run_model.h"
#include "support/thread_comm.h"

namespace cake::test {
namespace {

const Stream kComputes{0}, kWire{1};

// A wait that is left out, and of which stream.
struct Lost {
    Stream stream;
    int wait;
};

// In which order the emulated GPUs run things.
struct Order {
    std::optional<Stream> late = {};
    std::optional<Lost> lost = {};
};

std::unique_ptr<Backend> make_gpu(DType activations, const Order& order) {
    auto dev = make_cuda_backend(0, activations);
    if (order.late)
        gpu::run_late(cuda_queue(*dev, *order.late));
    if (order.lost)
        gpu::lose_wait(cuda_queue(*dev, order.lost->stream), order.lost->wait);
    return dev;
}

std::unique_ptr<Communicator> over_nccl(std::unique_ptr<Communicator> host, Backend& dev) {
    use_fake_gpu(host->rank());
    return make_nccl_communicator(std::move(host),
                                  {.cuda_stream = [&dev](Stream s) { return cuda_queue(dev, s); }});
}

Policy policy_named(const std::string& name) {
    PolicyConfig c;
    c.name = name;
    c.cache_size = 24;
    c.window = 8;
    return make_policy(c, {});
}

class Overlap : public testing::TestWithParam<std::tuple<int, DType>> {
protected:
    void SetUp() override {
        change_fake_nccl([](FakeNccl& fake) {
            fake = {};
            fake.put = [](CUstream_st* queue, std::function<void()> work) {
                gpu::put(queue, std::move(work));
            };
        });
    }

    int ranks() const { return std::get<0>(GetParam()); }
    DType type() const { return std::get<1>(GetParam()); }
    int all_reduces() const {
        const auto calls = fake_nccl().calls;
        return int(std::count(calls.begin(), calls.end(), "AllReduce"));
    }

    // tiny-qwen2 has two KV heads, which three ranks share.
    const Golden golden_{"tiny-qwen2"};
};

// ---- one layer --------------------------------------------------------------------------------------------------------

// Five chunks, the last one short: two pairs, and one alone.
constexpr int kTokens = 36, kChunk = 8, kChunks = 5;

class OverlapOfALayer : public Overlap {
protected:
    // What the first layer leaves of a prompt, rank 0's: x, keys, values, sums of columns.
    std::vector<std::vector<float>> pass(bool overlap, const Order& order = {}) {
        std::vector<std::vector<float>> out;
        run_ranks(ranks(), [&](Communicator& threads) {
            const auto dev = make_gpu(type(), order);
            const auto comm = over_nccl(threads.split(0), *dev);
            PlanInput plan;
            plan.model = read_model_config(golden_.model_path());
            plan.policies = {policy_named("h2o")};
            plan.ranks = ranks();
            plan.prompt = kTokens;
            plan.chunk = kChunk;
            plan.cache = plan.activation = plan.residual = type();
            plan.overlap = overlap;
            PhaseClock times(*dev);
            const Rank rank{*dev, *comm, &times};
            const Shard shard = shard_of(plan.model, ranks(), comm->rank());
            const Model model = load_model(*dev, Checkpoint::open(golden_.model_path()), plan.model,
                                           shard, WeightTypes(type()));
            Workspace ws(*dev, plan.model, shard, workspace_size(plan));
            auto prompt = golden_.prompt("p300");
            prompt.resize(kTokens);
            const View x = embed(rank, model, prompt, ws.x, ws);
            dev->fill_zero(kComputes, ws.column_sums);
            const LayerKv kv =
                forward_layer(rank, model, 0, x, ws, [&](View q, const LayerKv& so_far, int first) {
                    dev->column_sums(kComputes, q, so_far.k, first, ws.column_sums);
                });
            dev->synchronize(kComputes);
            dev->synchronize(kWire);  // has nothing left to do, unless a wait was lost
            if (comm->rank() == 0)
                for (const View& v : {x, kv.k, kv.v, ws.column_sums.view()})
                    out.push_back(download_floats(*dev, v));
        });
        return out;
    }
};

TEST_P(OverlapOfALayer, GivesTheSameBits) {
    const auto one_after_another = pass(false);
    EXPECT_EQ(pass(true), one_after_another);
    EXPECT_EQ(pass(true, {.late = kComputes}), one_after_another);
    EXPECT_EQ(pass(true, {.late = kWire}), one_after_another);
}

TEST_P(OverlapOfALayer, SumsTwiceAChunk) {
    pass(true);
    EXPECT_EQ(all_reduces(), 1 + 2 * kChunks);  // one is the embedding's
}

// A test of the test: the stream that computes waits for each sum, the wire for what it sums.
TEST_P(OverlapOfALayer, ShowsEachWaitThatIsMissing) {
    const auto whole = pass(true);
    for (int wait = 0; wait < 2 * kChunks; ++wait) {
        EXPECT_NE(pass(true, {.late = kWire, .lost = Lost{kComputes, wait}}), whole) << wait;
        EXPECT_NE(pass(true, {.late = kComputes, .lost = Lost{kWire, wait}}), whole) << wait;
    }
    EXPECT_EQ(pass(true, {.late = kWire, .lost = Lost{kComputes, 2 * kChunks}}), whole);
    EXPECT_EQ(pass(true, {.late = kComputes, .lost = Lost{kWire, 2 * kChunks}}), whole);
}

INSTANTIATE_TEST_SUITE_P(Ranks, OverlapOfALayer,
                         testing::Combine(testing::Values(2, 3),
                                          testing::Values(DType::F32, DType::BF16)),
                         [](const auto& info) {
                             return fmt::format("{}_{}", std::get<0>(info.param),
                                                name(std::get<1>(info.param)));
                         });

// ---- the engine -------------------------------------------------------------------------------------------------------

class OverlapOfAPrompt : public Overlap {
protected:
    std::vector<RunOutcome> run(bool nccl, const std::vector<std::string>& policies,
                                const Order& order = {}) const {
        RunSettings s;
        s.model = golden_.model_path();
        for (const std::string& name : policies)
            s.policies.push_back(policy_named(name));
        s.prompt = golden_.prompt("p300");
        s.prompt.resize(kPrompt);
        s.new_tokens = kNewTokens;
        s.chunk = 24;
        s.cache = type();
        s.backend = [&] { return make_gpu(type(), order); };
        if (nccl) {
            s.connect = over_nccl;
            s.overlap = true;
        }
        return run_model(ranks(), s);
    }

    static constexpr int kPrompt = 90, kNewTokens = 3;
};

TEST_P(OverlapOfAPrompt, KeepsAndAnswersAsWhereRanksSpeakThroughTheHost) {
    const std::vector<std::string> policies = {"cake", "h2o", "tova"};
    const auto want = run(false, policies);
    for (const Order& order : {Order{}, Order{.late = kComputes}, Order{.late = kWire}}) {
        const auto got = run(true, policies, order);
        for (std::size_t i = 0; i < want.size(); ++i) {
            SCOPED_TRACE(policies[i]);
            EXPECT_TRUE(got[i].evicted);
            EXPECT_EQ(got[i].logits, want[i].logits);
            EXPECT_EQ(got[i].tokens, want[i].tokens);
            EXPECT_EQ(got[i].prefill, want[i].prefill);
            EXPECT_EQ(got[i].final, want[i].final);
        }
    }
}

TEST_P(OverlapOfAPrompt, SumsAsOftenAsThePlanSays) {
    run(true, {"cake"});
    PlanInput plan;
    plan.model = read_model_config(golden_.model_path());
    plan.policies = {policy_named("cake")};
    plan.ranks = ranks();
    plan.prompt = kPrompt;
    plan.chunk = 24;
    plan.overlap = true;
    const TrafficPlan planned = plan_traffic(plan);
    const int L = plan.model.n_layers;
    EXPECT_EQ(planned.prefill_all_reduces, 1 + 2 * L * 4);
    EXPECT_EQ(planned.all_reduces_per_token, 1 + 2 * L);
    const int shared = ranks() == 3 ? kNewTokens - 1 : 0;  // scores of the head that two hold
    EXPECT_EQ(all_reduces(), planned.prefill_all_reduces +
                                 (kNewTokens - 1) * planned.all_reduces_per_token + shared);
}

// Of the sums, what the stream that computes waits for them.
TEST_P(OverlapOfAPrompt, TakesPhasesOneAfterAnother) {
    run_ranks(ranks(), [&](Communicator& threads) {
        const auto dev = make_gpu(type(), {.late = kWire});
        const auto comm = over_nccl(threads.split(0), *dev);
        PlanInput plan;
        plan.model = read_model_config(golden_.model_path());
        plan.policies = {policy_named("h2o")};
        plan.ranks = ranks();
        plan.prompt = kPrompt;
        plan.new_tokens = kNewTokens;
        plan.chunk = 24;
        plan.weights = WeightTypes(type());
        plan.cache = plan.activation = plan.residual = type();
        plan.overlap = true;
        Engine engine(*dev, *comm, Checkpoint::open(golden_.model_path()), plan);
        Request request;
        request.prompt = golden_.prompt("p300");
        request.prompt.resize(kPrompt);
        request.max_new_tokens = kNewTokens;
        const Generation g = engine.generate(request);
        const auto expect_phases = [](const PhaseTimes& times, std::vector<Phase> phases) {
            double sum = 0;
            for (const double s : times.seconds)
                sum += s;
            EXPECT_LE(sum, times.total_s);
            for (const Phase p : phases)
                EXPECT_GT(times[p], 0) << int(p);
        };
        expect_phases(
            engine.prefill_clock().times(),
            {Phase::Linear, Phase::Attention, Phase::Observe, Phase::Evict, Phase::AllReduce});
        expect_phases(engine.decode_clock().times(),
                      {Phase::Linear, Phase::Attention, Phase::Evict, Phase::AllReduce});
    });
}

INSTANTIATE_TEST_SUITE_P(Ranks, OverlapOfAPrompt,
                         testing::Values(std::tuple{2, DType::BF16}, std::tuple{3, DType::F32}),
                         [](const auto& info) {
                             return fmt::format("{}_{}", std::get<0>(info.param),
                                                name(std::get<1>(info.param)));
                         });

}  // namespace
}  // namespace cake::test
