// The plan is what a run takes: bytes, pages, messages.
#include "engine/plan.h"

#include <gtest/gtest.h>

#include "engine/engine.h"
#include "support/golden.h"
#include "support/model_shapes.h"
#include "support/run_model.h"
#include "support/thread_comm.h"

namespace cake::test {
namespace {

Policy cake_policy(int cache_size, bool cascade = true) {
    PolicyConfig c;
    c.cache_size = cache_size;
    c.window = 16;
    c.cascade = cascade;
    return make_policy(c, {});
}

PlanInput input(const ModelConfig& model, std::vector<Policy> policies, int ranks, int prompt) {
    PlanInput in;
    in.model = model;
    in.policies = std::move(policies);
    in.ranks = ranks;
    in.prompt = prompt;
    in.new_tokens = 4;
    in.chunk = 128;
    return in;
}

TEST(Plan, CountsTheWeightsThatLoadingTakes) {
    for (const std::string name : {"tiny-llama", "tiny-mistral", "tiny-qwen2", "tiny-llama-bf16"}) {
        const std::string path = golden_model(name);
        const ModelConfig config = read_model_config(path);
        auto dev = make_cpu_backend(1);
        std::size_t all = 0;
        for (int r = 0; r < 2; ++r) {
            const Shard shard = shard_of(config, 2, r);
            const WeightTypes types = requested_types(config, "auto", path);
            const Model model = load_model(*dev, Checkpoint::open(path), config, shard, types);
            EXPECT_EQ(model.weight_bytes(), model_bytes(config, shard, types)) << name;
            all += model.weight_bytes();
        }
        EXPECT_GT(all, bytes_of(config.dtype, config.parameters()));
    }
}

TEST(Plan, CountsTheMessagesOfARun) {
    const std::string path = golden_path("tiny-llama") + "/model";
    const ModelConfig model = read_model_config(path);
    for (int ranks : {1, 2, 3, 6}) {
        const PlanInput plan = input(model, {cake_policy(48)}, ranks, 300);
        const TrafficPlan planned = plan_traffic(plan);
        run_ranks(ranks, [&](Communicator& comm) {
            auto dev = make_cpu_backend(1);
            Engine engine(*dev, comm, Checkpoint::open(path), plan);
            Request request;
            request.prompt = Golden("tiny-llama").prompt("p300");
            request.max_new_tokens = 4;
            const Generation g = engine.generate(request);
            EXPECT_EQ(g.tokens.size(), 4u);
            const auto traffic = comm.traffic();
            EXPECT_EQ(traffic.all_reduce_calls,
                      planned.prefill_all_reduces + 3 * planned.all_reduces_per_token);
            EXPECT_EQ(traffic.all_reduce_bytes,
                      planned.prefill_all_reduce_bytes + 3 * planned.all_reduce_bytes_per_token);
            EXPECT_EQ(traffic.statistics_bytes, planned.statistics_bytes);
            if (comm.rank() == 0) {
                const auto shared = engine.sharing_traffic();
                EXPECT_EQ(2 * shared.all_reduce_bytes, 3 * planned.shared_head_bytes_per_token);
            }
            // Two all-reduces a layer and chunk, and one for the embedding.
            EXPECT_EQ(planned.prefill_all_reduces, ranks == 1 ? 0 : 1 + 2 * 5 * 3);
            EXPECT_EQ(planned.all_reduces_per_token, ranks == 1 ? 0 : 1 + 2 * 5);
        });
    }
}

// Means over all heads are summed over all ranks: once a layer that evicts, once a step while decoding.
TEST(Plan, CountsTheMessagesOfScoresOverAllHeads) {
    const std::string path = golden_path("tiny-llama") + "/model";
    const ModelConfig model = read_model_config(path);
    PolicyConfig tova;
    tova.name = "tova";
    tova.cache_size = 64;
    PolicyConfig grows = tova;
    grows.decode = "none";
    for (const PolicyConfig& policy : {tova, grows})
        for (const int prompt : {300, 50})
            for (const int ranks : {1, 2, 3, 6}) {
                SCOPED_TRACE(fmt::format("{} tokens on {}", prompt, ranks));
                const PlanInput plan = input(model, {make_policy(policy, {})}, ranks, prompt);
                const TrafficPlan planned = plan_traffic(plan);
                run_ranks(ranks, [&](Communicator& comm) {
                    auto dev = make_cpu_backend(1);
                    Engine engine(*dev, comm, Checkpoint::open(path), plan);
                    Request request;
                    request.prompt = Golden("tiny-llama").prompt("p300");
                    request.prompt.resize(std::size_t(prompt));
                    request.max_new_tokens = 4;
                    engine.generate(request);
                    const auto traffic = comm.traffic();
                    EXPECT_EQ(traffic.all_reduce_calls,
                              planned.prefill_all_reduces + planned.score_all_reduces +
                                  3 * (planned.all_reduces_per_token +
                                       planned.score_all_reduces_per_token));
                    EXPECT_EQ(traffic.all_reduce_bytes,
                              planned.prefill_all_reduce_bytes + planned.score_all_reduce_bytes +
                                  3 * (planned.all_reduce_bytes_per_token +
                                       planned.score_all_reduce_bytes_per_token));
                    EXPECT_EQ(traffic.statistics_bytes, planned.statistics_bytes);
                });
                const bool cut = ranks > 1 && prompt > 64, evicts = ranks > 1 && !policy.decode;
                EXPECT_EQ(planned.score_all_reduces, cut ? 5 : 0);
                EXPECT_EQ(planned.score_all_reduce_bytes, cut ? 5 * 299 * 4 : 0);
                EXPECT_EQ(planned.score_all_reduces_per_token, evicts ? 1 : 0);
            }
}

TEST(Plan, HasRoomForRunningSumsWhereAPolicyAccumulates) {
    const ModelConfig model = read_model_config(golden_path("tiny-llama") + "/model");
    PolicyConfig c;
    c.name = "h2o";
    c.cache_size = 64;
    const PlanInput with = input(model, {cake_policy(64), make_policy(c, {})}, 1, 300);
    c.decode = "none";
    const PlanInput without = input(model, {make_policy(c, {})}, 1, 300);
    const Shard shard = shard_of(model, 1, 0);
    EXPECT_TRUE(page_layout(with, shard).running);
    EXPECT_FALSE(page_layout(without, shard).running);
    EXPECT_TRUE(workspace_size(without).columns);
    EXPECT_EQ(workspace_size(without).window, 0) << "no queries are kept";
    EXPECT_FALSE(workspace_size(input(model, {cake_policy(64)}, 1, 300)).columns);
}

TEST(Plan, HasASecondDeltaWhereSumsAreMadeBesideComputing) {
    const ModelConfig model = read_model_config(golden_path("tiny-llama") + "/model");
    const auto workspace = [&](int ranks, int prompt, bool overlap) {
        PlanInput in = input(model, {cake_policy(64)}, ranks, prompt);
        in.overlap = overlap;
        return plan_rank(in, 0).workspace;
    };
    EXPECT_EQ(workspace(2, 300, true) - workspace(2, 300, false),
              128 * model.d_model * sizeof(float));
    EXPECT_EQ(workspace(1, 300, true), workspace(1, 300, false)) << "nothing is summed";
    EXPECT_EQ(workspace(2, 128, true), workspace(2, 128, false)) << "one chunk";
}

TEST(Plan, TakesLargerChunksOnAGpu) {
    const ModelConfig m = llama_8b();
    RunConfig config;
    EXPECT_EQ(plan_input(config, m, 1, 100000, 1).chunk, 2048);
    const PlanInput gpu = plan_input(config, m, 1, 100000, 1, gpu_types);
    EXPECT_EQ(gpu.chunk, 8192);
    EXPECT_EQ(resolved_config(config, gpu).engine.prefill_chunk, "8192");
    config.engine.prefill_chunk = "512";
    EXPECT_EQ(plan_input(config, m, 1, 100000, 1, gpu_types).chunk, 512);
}

TEST(Plan, CutsAPromptInTwoWhereSumsAreMadeBesideComputing) {
    const auto chunk = [](int prompt, int ranks) {
        PlanInput in = input(llama_8b(), {full_policy()}, ranks, prompt);
        in.chunk = 8192;
        in.overlap = true;
        const WorkspaceSize z = workspace_size(in);
        EXPECT_EQ(z.overlap, z.chunk < prompt && ranks > 1) << prompt;
        EXPECT_EQ(plan_traffic(in).prefill_all_reduces,
                  ranks == 1 ? 0 : 1 + 2 * 32 * ((prompt + z.chunk - 1) / z.chunk));
        EXPECT_EQ(rows_of_part(700, z.chunk, z.overlap), 700) << "too short to be cut";
        return z.chunk;
    };
    EXPECT_EQ(chunk(6000, 1), 6000);
    EXPECT_EQ(chunk(8193, 1), 4224) << "even parts, in whole tiles";
    EXPECT_EQ(chunk(2047, 2), 2047);
    EXPECT_EQ(chunk(2048, 2), 1024);
    EXPECT_EQ(chunk(6000, 2), 3072);
    EXPECT_EQ(chunk(8192, 2), 4096);
    EXPECT_EQ(chunk(20000, 2), 5120) << "four parts, where three would do";
    EXPECT_EQ(chunk(131072, 2), 8192);
}

// An MLP's gates are held for a part of a chunk, so that long chunks do not cost their width.
TEST(Plan, Llama8BAt128kTakesTwoAndAHalfGiBBesideWeights) {
    PlanInput in = plan_input({}, llama_8b(), 1, 131072, 64, gpu_types);
    in.policies = {cake_policy(1024)};
    const RankPlan p = plan_rank(in, 0);
    constexpr double GiB = 1 << 30;
    EXPECT_LT(double(p.total() - p.weights) / GiB, 2.5);
    EXPECT_GT(double(p.total() - p.weights) / GiB, 2);
}

TEST(Plan, CountsNcclsMemoryForEachStreamAndForSharers) {
    constexpr std::size_t MiB = 1 << 20;
    PlanInput in = plan_input({}, llama_8b(), 2, 20000, 64, gpu_types);
    EXPECT_EQ(gpu_library_bytes(in), 256 * MiB) << "what passes through the host takes none";
    in.overlap = true;
    EXPECT_EQ(gpu_library_bytes(in), (256 + 2 * (768 + 5120 * 8 / 1024)) * MiB);
    in.ranks = 16;  // of 8 KV heads
    EXPECT_EQ(gpu_library_bytes(in), (256 + 768 + 2 * (768 + 5120 * 8 / 1024)) * MiB);
    in.ranks = 2;
    in.prompt = 1000;
    in.chunk = 1024;
    in.batch = 8;
    EXPECT_EQ(gpu_library_bytes(in), (256 + 768) * MiB + 1000 * 4096 * 2) << "one chunk";
    in.ranks = 1;
    EXPECT_EQ(gpu_library_bytes(in), 256 * MiB);
}

// The same for what ranks that share a KV head exchange, under every policy that evicts.
TEST(Plan, CountsWhatSharingAKvHeadCosts) {
    const std::string path = golden_path("tiny-llama") + "/model";
    const ModelConfig model = read_model_config(path);
    for (const std::string name : {"cake", "streaming", "snapkv", "pyramidkv", "h2o", "tova"})
        for (int ranks : {6, 8}) {
            SCOPED_TRACE(name + " on " + std::to_string(ranks));
            PolicyConfig c;
            c.name = name;
            c.cache_size = 64;
            const PlanInput plan = input(model, {make_policy(c, {})}, ranks, 300);
            const TrafficPlan planned = plan_traffic(plan);
            run_ranks(ranks, [&](Communicator& comm) {
                auto dev = make_cpu_backend(1);
                Engine engine(*dev, comm, Checkpoint::open(path), plan);
                Request request;
                request.prompt = Golden("tiny-llama").prompt("p300");
                request.max_new_tokens = 4;
                engine.generate(request);
                const auto shared = engine.sharing_traffic();
                if (comm.rank() != 0)
                    return;
                const double expected = double(planned.shared_head_bytes) +
                                        3.0 * double(planned.shared_head_bytes_per_token);
                EXPECT_NEAR(double(shared.all_reduce_bytes + shared.other_bytes), expected,
                            0.05 * expected);
                EXPECT_EQ(shared.all_reduce_bytes > 0, name == "cake" || name == "h2o");
            });
            // A rank that does not own its KV head holds a copy: its cache, and its keys' and values' weights.
            const RankPlan owner = plan_rank(plan, 0), copy = plan_rank(plan, 1);
            EXPECT_EQ(owner.shared_copy, 0u);
            EXPECT_EQ(copy.shared_copy, copy.kv_peak + 5 * 2 * 16 * 128 * sizeof(float));
        }
}

// Peak KV bytes of a 16,384-token prefill, from the pool's high-water mark: the budget and one uncut layer.
TEST(Plan, TheCascadeHoldsTheBudgetAndOneUncutLayer) {
    const std::string path = golden_path("tiny-llama") + "/model";
    ModelConfig model = read_model_config(path);
    model.max_positions = 16384;
    constexpr int S = 16384, C = 128, L = 5;
    std::vector<TokenId> prompt;
    for (int i = 0; i < S; ++i)
        prompt.push_back(TokenId((i * 7919LL + i / 31) % 512));
    std::size_t peak[2];
    for (const bool cascade : {true, false}) {
        PlanInput plan = input(model, {cake_policy(C, cascade)}, 1, S);
        plan.chunk = 2048;
        auto self = make_self_communicator();
        auto dev = make_cpu_backend(2);
        Engine engine(*dev, *self, Checkpoint::open(path), plan);
        Request request;
        request.prompt = prompt;
        request.max_new_tokens = 2;
        const Generation g = engine.generate(request);
        EXPECT_TRUE(g.evicted);
        const RankPlan planned = plan_rank(plan, 0);
        const PageLayout pages = engine.pool().layout();
        EXPECT_LE(engine.pool().peak_bytes(), planned.kept_cache);
        EXPECT_EQ(engine.pool().in_use(), 0);
        peak[cascade] = engine.pool().peak_bytes() + planned.uncut_layer;
        if (cascade) {
            // Budget, a token a layer of rounding up, the hole of decoding, a page a layer of rounding.
            const std::size_t most =
                std::size_t(L * C + 2 * L) / std::size_t(pages.page_tokens) + L + 1;
            EXPECT_LE(std::size_t(engine.pool().high_water()), most);
            EXPECT_EQ(planned.uncut_layer, bytes_of(DType::F32, 2LL * S * 4 * 16));
            EXPECT_GE(engine.pool().peak_bytes() * 20, planned.kept_cache * 19)
                << "the plan is within 5 % of the run";
        } else {
            EXPECT_EQ(engine.pool().high_water(), (L - 1) * pages.pages_for(S))
                << "uncut until the last has passed";
        }
    }
    EXPECT_LT(peak[true] * 4, peak[false]);
}

TEST(Plan, Llama8BAt128kIsTheBudgetAndOneLayer) {
    const ModelConfig m = llama_8b();
    PlanInput in = input(m, {cake_policy(1024)}, 1, 131072);
    in.policies[0].window = 32;
    in.cache = DType::BF16;
    in.weights = DType::BF16;
    const RankPlan p = plan_rank(in, 0);
    constexpr double MiB = 1 << 20;
    EXPECT_EQ(double(p.uncut_layer), 512 * MiB);
    EXPECT_NEAR(double(p.kept_cache) / MiB, (128 + 8) * 1.016, 0.5)
        << "a page a layer of rounding, 1.6 % of bookkeeping";
    EXPECT_NEAR(double(p.kv_full) / MiB, 16 * 1024, 1);
    EXPECT_NEAR(double(p.weights) / 1e9, 16.06, 0.01);
}

TEST(Plan, CountsWhatAGpusKernelsWorkInByHand) {
    const ModelConfig m = llama_8b();
    const auto work = [&](const Policy& policy, int batch, bool gpu = true) {
        PlanInput in = input(m, {policy}, 1, 131072);
        in.batch = batch;
        in.gpu = gpu;
        return plan_rank(in, 0).kernel_work;
    };
    EXPECT_EQ(work(full_policy(), 1, false), 0u);
    EXPECT_EQ(work(full_policy(), 1), 32u << 20) << "a product's";
    // Attention of a step: 2,049 pages, in a table of 2,560, are 640 splits of a head, each leaves 128 + 2 floats.
    EXPECT_EQ(work(full_policy(), 16), 16u * 32 * 640 * (128 + 2) * 4);
    // Eviction with many slots: 12 bytes a slot of 128 heads at a time; 32,770 slots are 513 pages, in a table of 640.
    PolicyConfig streaming;
    streaming.name = "streaming";
    streaming.cache_size = 32768;
    EXPECT_EQ(work(make_policy(streaming, m), 1), 128u * 640 * 64 * 12);
}

TEST(Plan, FlopsOfAPrefillByHand) {
    ModelConfig m;
    m.n_layers = 1;
    m.d_model = 8;
    m.n_heads = 2;
    m.n_kv_heads = 1;
    m.d_head = 4;
    m.d_ff = 16;
    m.vocab = 10;
    // Per token: q and o 8*8 each, k and v 8*4 each, MLP 3*8*16; attention 2 heads * 4 * (1 + 2 + 3) keys * 2 products.
    EXPECT_EQ(prefill_flops(m, 3),
              2 * (3 * (64 + 64 + 32 + 32 + 384) + 2 * 4 * 6 * 2) + 2 * 8 * 10);
}

}  // namespace
}  // namespace cake::test
