// Predictions against sums done by hand.
#include "engine/roofline.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "support/model_shapes.h"

namespace cake {
namespace {

using test::llama_8b;

// 2 layers, 4 query and 2 KV heads of 4; 16 MLP columns; vocabulary 32.
ModelConfig small_model() {
    ModelConfig m;
    m.n_layers = 2;
    m.d_model = 8;
    m.n_heads = 4;
    m.n_kv_heads = 2;
    m.d_head = 4;
    m.d_ff = 16;
    m.vocab = 32;
    m.max_positions = 4096;
    return m;
}

Policy policy(const std::string& name, int cache_size = 64, int window = 16) {
    PolicyConfig c;
    c.name = name;
    if (name != "full")
        c.cache_size = cache_size;
    if (name == "cake")
        c.window = window;
    return make_policy(c, {});
}

PlanInput input(const ModelConfig& model, const Policy& policy, int prompt, int batch = 1) {
    PlanInput in;
    in.model = model;
    in.policies = {policy};
    in.prompt = prompt;
    in.batch = batch;
    in.new_tokens = 20;
    return in;
}

PlanInput llama_input(const Policy& policy, int prompt, int batch = 1) {
    PlanInput in = input(llama_8b(), policy, prompt, batch);
    in.new_tokens = 0;
    in.weights = in.cache = in.residual = DType::BF16;
    return in;
}

// 1 GB/s, 1 GFLOP/s, links of 1 GB/s: seconds are billions of what is counted.
Machine slow_machine() {
    Machine m;
    m.name = "slow";
    m.devices_per_node = 4;
    m.memory_bytes = 1 << 30;
    m.read_gb_s = m.link_gb_s = 1;
    m.network_gb_s = 0.5;
    m.gemm_tflop_s = m.attention_tflop_s = 1e-3;
    m.link_latency_us = 10;
    m.network_latency_us = 100;
    return m;
}

Machine h100() { return read_machine("h100"); }

Prediction predict_on(PlanInput in, int ranks, const Machine& machine) {
    in.ranks = ranks;
    return predict(in, machine);
}

TEST(Roofline, CountsAPrefillByHand) {
    const Machine m = slow_machine();
    const int S = 100;
    const Prediction p = predict(input(small_model(), policy("full"), S), m);
    // A layer: q and o 8*16, k and v 8*8, MLP 3*8*16 multiply-adds. Logits: 8*32, once.
    const double macs = S * 2 * (2 * 8 * 16 + 2 * 8 * 8 + 3 * 8 * 16) + 8 * 32;
    EXPECT_DOUBLE_EQ(p.prefill.linear, 2 * macs * 1e-9);
    // 2 layers, 4 heads, 4 dimensions, 2 products, 100 * 101 / 2 pairs.
    EXPECT_DOUBLE_EQ(p.prefill.attention, 2 * 2 * 2 * 4 * 4 * 5050 * 1e-9);
    EXPECT_EQ(p.prefill.observe, 0);
    EXPECT_EQ(p.prefill.all_reduce, 0);
    EXPECT_DOUBLE_EQ((p.prefill.linear + p.prefill.attention) * 1e9,
                     prefill_flops(small_model(), S));
    EXPECT_DOUBLE_EQ(p.prompt_tokens_per_s, S / p.prefill.total());
}

TEST(Roofline, CountsWhatPoliciesObserve) {
    const int S = 100;
    const Prediction cake = predict(input(small_model(), policy("cake"), S), slow_machine());
    // 16 queries, 100 keys, 2 layers, 4 heads of 4, one product, twice.
    EXPECT_DOUBLE_EQ(cake.prefill.observe, 2 * 2.0 * 16 * 100 * 2 * 4 * 4 * 1e-9);
    const Prediction h2o = predict(input(small_model(), policy("h2o"), S), slow_machine());
    EXPECT_EQ(h2o.prefill.observe, h2o.prefill.attention);
}

TEST(Roofline, CountsADecodeStepByHand) {
    Machine m = slow_machine();
    const Prediction p = predict(input(small_model(), policy("full"), 100, 3), m);
    // F32. Matrices of two layers, norms of 8, the head (not the embedding) of 32 rows, 2 frequencies of RoPE.
    const double weights = 4 * (2 * (2 * 8 * 16 + 2 * 8 * 8 + 3 * 8 * 16 + 2 * 8) + 8 + 32 * 8 + 2);
    EXPECT_EQ(p.weight_bytes, weights);
    // K and V of 2 layers, 2 heads of 4, 3 sequences of 100 + 20 / 2 tokens.
    EXPECT_EQ(p.kv_bytes, 4 * 2 * 2 * 2 * 4 * 3 * 110);
    EXPECT_EQ(p.gather_bytes, 0) << "one rank";
    const double flops = 2 * 3 * (2 * (2 * 8 * 16 + 2 * 8 * 8 + 3 * 8 * 16) + 8 * 32);
    EXPECT_LT(weights, flops);
    EXPECT_DOUBLE_EQ(p.step.linear, flops * 1e-9) << "three rows take longer than reading";
    EXPECT_DOUBLE_EQ(p.step.attention, p.kv_bytes * 1e-9) << "reading takes as long as computing";
    m.gemm_tflop_s = 1;
    EXPECT_DOUBLE_EQ(predict(input(small_model(), policy("full"), 100, 3), m).step.linear,
                     weights * 1e-9);
    EXPECT_DOUBLE_EQ(p.tokens_per_s, 3 / p.step.total());
}

TEST(Roofline, ReadsWhatAPolicyKeeps) {
    EXPECT_EQ(tokens_read(policy("full"), 1000, 20), 1010);
    EXPECT_EQ(tokens_read(policy("cake"), 1000, 20), 64);
    EXPECT_EQ(tokens_read(policy("snapkv"), 1000, 20), 64 + 10) << "grows while decoding";
    EXPECT_EQ(tokens_read(policy("cake"), 40, 20), 50) << "not full yet";
    EXPECT_EQ(tokens_read(policy("cake"), 70, 20), 64) << "whole in prefill, then cut";
}

// Latency and bytes of a sum, in the file's units.
TEST(Roofline, CountsAnAllReduceByHand) {
    const Machine m = slow_machine();
    EXPECT_EQ(all_reduce_seconds(m, 1, 10, 1e6), 0);
    // Within a node a ring sends 2 * 3/4 of the payload.
    EXPECT_DOUBLE_EQ(all_reduce_seconds(m, 4, 10, 1e6), 10 * 10e-6 + 1.5e6 * 1e-9);
    // Of two nodes each device sends half of its quarter twice, besides.
    EXPECT_DOUBLE_EQ(all_reduce_seconds(m, 8, 10, 1e6),
                     10 * 110e-6 + 1.5e6 * 1e-9 + 2 * 0.5 * 1e6 / 4 / 0.5e9);
    // 16 nodes are four doublings.
    EXPECT_DOUBLE_EQ(all_reduce_seconds(m, 64, 1, 0), 10e-6 + 4 * 100e-6);
}

TEST(Roofline, HasTheMessagesOfThePlan) {
    PlanInput in = input(small_model(), policy("cake"), 300, 2);
    in.residual = DType::BF16;
    in.chunk = 128;
    in.ranks = 2;
    const Machine m = slow_machine();
    const Prediction p = predict(in, m);
    const TrafficPlan t = plan_traffic(in);
    EXPECT_EQ(to_json(p.traffic), to_json(t));
    EXPECT_EQ(t.all_reduces_per_token, 1 + 2 * 2);
    EXPECT_EQ(t.all_reduce_bytes_per_token, 5 * 2 * 8 * 2) << "batch of 2, 8 values, bf16";
    EXPECT_EQ(t.prefill_all_reduces, 1 + 2 * 2 * 3);
    EXPECT_EQ(t.prefill_all_reduce_bytes, 5 * 300 * 8 * 2);
    // A ring of two sends the payload; a gather half of it.
    EXPECT_EQ(p.gather_bytes, 2 * 2 * 8) << "a key of each rank and sequence";
    EXPECT_DOUBLE_EQ(p.step.all_reduce, (5 + 1) * 10e-6 + (160 + 16) * 1e-9);
    in.greedy = false;
    const Prediction sampled = predict(in, m);
    EXPECT_EQ(sampled.gather_bytes, 2 * 32 * 4);
    EXPECT_DOUBLE_EQ(sampled.step.all_reduce, (5 + 1) * 10e-6 + (160 + 128) * 1e-9);
    EXPECT_DOUBLE_EQ(p.prefill.all_reduce,
                     (13 + 2 + 1) * 10e-6 + (5 * 300 * 8 * 2 + 2 * 16 + 64) * 1e-9);
}

// Chunks take turns: a sum is beside half a block of the other one.
TEST(Roofline, HidesThePrefillsSumsBesideComputing) {
    PlanInput in = input(small_model(), policy("full"), 400);
    in.chunk = 100;
    in.ranks = 2;
    Machine m = slow_machine();
    m.link_latency_us = 1;
    const Prediction apart = predict(in, m);
    EXPECT_EQ(apart.prefill.hidden, 0);
    in.overlap = true;
    const Prediction beside = predict(in, m);
    // Of 2 * 2 * 4 sums, all but a layer's last: 7 of 8. The embedding's, one of five parts of the bytes, waits.
    const double sums =
        all_reduce_seconds(m, 2, 16, double(apart.traffic.prefill_all_reduce_bytes) * 4 / 5);
    EXPECT_NEAR(beside.prefill.hidden, 7.0 / 8 * sums, 1e-12);
    EXPECT_DOUBLE_EQ(beside.prefill.total(), apart.prefill.total() - beside.prefill.hidden);
    EXPECT_EQ(beside.prefill.all_reduce, apart.prefill.all_reduce);
    in.prompt = 300;  // the third chunk is alone
    const Prediction odd = predict(in, m);
    const double odd_sums =
        all_reduce_seconds(m, 2, 12, double(odd.traffic.prefill_all_reduce_bytes) * 4 / 5);
    EXPECT_NEAR(odd.prefill.hidden, 4.0 / 6 * odd_sums, 1e-12);
    m.link_latency_us = 1e6;  // more than there is to hide behind
    const Prediction slow = predict(in, m);
    EXPECT_DOUBLE_EQ(slow.prefill.hidden, slow.prefill.linear + slow.prefill.attention);
    in.prompt = 100;  // one chunk
    EXPECT_EQ(predict(in, m).prefill.hidden, 0);
}

TEST(Roofline, TakesTheSlowestRank) {
    ModelConfig m = small_model();
    m.n_kv_heads = 4;
    const PlanInput in = input(m, policy("full"), 1000);
    const Prediction p = predict_on(in, 3, slow_machine());  // 2 + 1 + 1 heads
    EXPECT_DOUBLE_EQ(p.prefill.attention, 2 * 2 * 2 * 2 * 4 * 500500 * 1e-9);
    EXPECT_EQ(p.kv_bytes, 4 * 2 * 2 * 2 * 4 * 1010);
}

TEST(Roofline, DividesWhatANodesRanksShare) {
    Machine m = slow_machine();
    m.shared = true;
    m.memory_bytes = 2 << 20;
    const PlanInput in = input(small_model(), policy("full"), 1000);
    const Prediction one = predict_on(in, 1, m), two = predict_on(in, 2, m);
    EXPECT_DOUBLE_EQ(two.prefill.attention, one.prefill.attention);
    EXPECT_DOUBLE_EQ(two.step.attention, one.step.attention);
    // Of two full nodes a rank has twice what it has of one.
    const PlanInput wide = input(llama_8b(), policy("full"), 1000);
    EXPECT_DOUBLE_EQ(predict_on(wide, 8, m).step.attention,
                     predict_on(wide, 4, m).step.attention / 2);
    m.memory_bytes = one.rank_bytes;
    EXPECT_TRUE(predict_on(in, 1, m).fits);
    EXPECT_FALSE(predict_on(in, 2, m).fits) << "both hold norms and half a workspace";
}

TEST(Roofline, TwoNodesAreSlowerThanOne) {
    Machine one = h100(), two = h100();
    two.devices_per_node = 4;
    const PlanInput in = llama_input(policy("cake", 1024), 32768);
    const Prediction a = predict_on(in, 8, one), b = predict_on(in, 8, two);
    EXPECT_EQ(a.nodes, 1);
    EXPECT_EQ(b.nodes, 2);
    EXPECT_GT(b.step.all_reduce, a.step.all_reduce);
    EXPECT_GT(b.prefill.all_reduce, a.prefill.all_reduce);
    EXPECT_EQ(b.step.linear, a.step.linear);
}

TEST(Roofline, MoreOfAnythingTakesLonger) {
    const Machine m = h100();
    const Policy full = policy("full"), cake = policy("cake", 1024);
    const Prediction base = predict(llama_input(full, 8192, 2), m);
    EXPECT_GT(predict(llama_input(full, 16384, 2), m).prefill.total(), base.prefill.total());
    EXPECT_GT(predict(llama_input(full, 16384, 2), m).step.total(), base.step.total());
    EXPECT_GT(predict(llama_input(full, 8192, 4), m).step.total(), base.step.total());
    EXPECT_GT(predict(llama_input(full, 8192, 4), m).tokens_per_s, base.tokens_per_s);
    EXPECT_LT(predict(llama_input(cake, 8192, 2), m).step.total(), base.step.total());
    double before = INFINITY;
    for (const int ranks : {1, 2, 4, 8}) {
        const Prediction p = predict_on(llama_input(full, 131072), ranks, m);
        EXPECT_LT(p.prefill.total(), before);
        before = p.prefill.total();
    }
    EXPECT_TRUE(base.fits);
    EXPECT_FALSE(predict(llama_input(full, 131072, 8), m).fits);
}

// Every number of ranks up to the query heads has a prediction; one more is refused.
TEST(Roofline, KnowsAsManyRanksAsTheModel) {
    for (const int ranks : {3, 9, 31, 32}) {
        const Prediction p = predict_on(llama_input(policy("cake", 1024), 8192), ranks, h100());
        EXPECT_EQ(p.nodes, (ranks + 7) / 8);
        EXPECT_GT(p.tokens_per_s, 0);
    }
    EXPECT_THROW(predict_on(llama_input(policy("full"), 8192), 33, h100()), Error);
}

// Llama-3.1-8B in bf16 at 131,072 tokens, with all of the data sheet's 3350 GB/s: 104 tokens/s with the full cache and
// 221 with C = 1024, 5.4 and 9.5 times as many at batches of 4 and 8; prefills of 0.20, 1.16 and 10.1 s.
TEST(Roofline, AgreesWithTheArithmeticOfAnH100) {
    Machine m = h100();
    m.read_gb_s = 3350;
    auto tokens = [&](const Policy& p, int batch) {
        return predict(llama_input(p, 131072, batch), m).tokens_per_s;
    };
    const Policy full = policy("full"), cake = policy("cake", 1024, 32);
    EXPECT_NEAR(tokens(full, 1), 104, 0.5);
    EXPECT_NEAR(tokens(cake, 1), 221, 0.5);
    EXPECT_NEAR(tokens(cake, 4) / tokens(full, 4), 5.4, 0.05);
    EXPECT_NEAR(tokens(cake, 8) / tokens(full, 8), 9.5, 0.05);
    EXPECT_NEAR(predict(llama_input(full, 8192), m).prefill.total(), 0.20, 0.005);
    EXPECT_NEAR(predict(llama_input(full, 32768), m).prefill.total(), 1.16, 0.005);
    EXPECT_NEAR(predict(llama_input(full, 131072), m).prefill.total(), 10.1, 0.05);
}

}  // namespace
}  // namespace cake
