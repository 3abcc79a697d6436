// The arithmetic of `cake bench`: what is measured, and what is made of it.
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/measure.h"
#include "bench/sweep.h"
#include "bench/table.h"
#include "bench/trace.h"
#include "engine/request_report.h"
#include "support/golden.h"
#include "support/thread_comm.h"

namespace cake::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(Spread, IsTheSampleMeanAndDeviation) {
    const Spread s = spread({2, 4, 4, 4, 5, 5, 7, 9});
    EXPECT_DOUBLE_EQ(s.mean, 5);
    EXPECT_NEAR(s.sd, 2.13809, 1e-5);  // sqrt(32 / 7)
    EXPECT_EQ(s.n, 8);
    EXPECT_EQ(spread({3}).sd, 0);
    EXPECT_EQ(spread({}).n, 0);
}

TEST(Percentile, IsThatOfTwentyRequestsByHand) {
    std::vector<double> values;
    for (int i = 20; i >= 1; --i)
        values.push_back(i);
    EXPECT_EQ(percentile(values, 0.5), 11);  // the 11th of 20
    EXPECT_EQ(percentile(values, 0.9), 19);
    EXPECT_EQ(percentile(values, 0.99), 20);
    EXPECT_EQ(percentile({7}, 0.99), 7);
}

RunConfig study() {
    RunConfig config;
    config.model.path = golden_path("tiny-llama") + "/model";
    config.bench.policies = {"full", "cake", "h2o"};
    config.bench.cache_sizes = {48, 96};
    config.bench.prompts = {120, 200};
    config.bench.batches = {1, 3};
    config.bench.new_tokens = {4};
    config.bench.repeat = 2;
    config.policy.window = 16;
    return config;
}

TEST(Study, HasEachPolicyWithEachCacheSizeAndFullOnce) {
    const RunConfig config = study();
    const auto policies = study_policies(config, {});
    ASSERT_EQ(policies.size(), 5u);
    EXPECT_EQ(policies[0].name, "full");
    EXPECT_EQ(policies[2].cache_size, 96);
    EXPECT_EQ(row_id({policies[2], 200, 3, 4}, 1), "p200/cake-96/b3/n4/1");
    EXPECT_EQ(row_id({policies[0], 200, 3, 4}, 0), "p200/full/b3/n4/0");
    EXPECT_EQ(prefill_groups(policies).size(), 3u);  // full and cake; h2o twice, by itself
    EXPECT_EQ(count_rows(config, {}, {120, 200}), 2 * 5 * 2 * 2);
}

// Rows of a sweep on `ranks`, by id.
std::map<std::string, json> sweep_rows(int ranks, const RunConfig& config,
                                       const std::set<std::string>& done = {},
                                       int stop_after = -1) {
    std::map<std::string, json> rows;
    run_ranks(ranks, [&](Communicator& comm) {
        auto dev = make_cpu_backend(1);
        const ModelConfig model = read_model_config(config.model.path);
        Engine engine(*dev, comm, Checkpoint::open(config.model.path),
                      study_plan(config, model, ranks, config.bench.prompts.back()));
        Sweep sweep;
        sweep.prompts = config.bench.prompts;
        sweep.done = done;
        sweep.all = {100, 2};
        sweep.alone = {50, 1};
        sweep.prompt = [](int length) { return std::vector<TokenId>(std::size_t(length), 7); };
        int n = 0;
        sweep.row = [&](const std::string& id, json row) {
            EXPECT_TRUE(rows.emplace(id, std::move(row)).second) << id << " twice";
            ++n;
        };
        sweep.stopped = [&] { return n == stop_after; };
        EXPECT_EQ(run_sweep(engine, config, sweep), stop_after < 0);
        EXPECT_EQ(engine.pool().in_use(), 0);
    });
    return rows;
}

TEST(Sweep, MeasuresEveryCombinationAndCountsItsBytes) {
    const RunConfig config = study();
    const ModelConfig model = read_model_config(config.model.path);
    for (int ranks : {1, 2}) {
        const auto rows = sweep_rows(ranks, config);
        ASSERT_EQ(rows.size(), 40u);
        const json& row = rows.at("p200/cake-48/b3/n4/1");
        // Keys and values of 48 tokens a layer, over all ranks; 200 in full.
        const double token = 2.0 * 4 * model.n_layers * model.n_kv_heads * model.d_head;
        EXPECT_EQ(row["kv"]["kept_bytes"], 48 * token);
        EXPECT_EQ(row["kv"]["full_bytes"], 200 * token);
        EXPECT_LT(row["kv"]["peak_bytes"], row["kv"]["full_bytes"]);
        EXPECT_EQ(rows.at("p200/full/b1/n4/0")["kv"]["kept_bytes"], 200 * token);
        EXPECT_EQ(row["prefill"]["flops"], prefill_flops(model, 200));
        // Of all ranks: norms and what else is not sharded count for each.
        double weights_of_all = 0, planned = 0;
        const PlanInput plan = study_plan(config, model, ranks, 200);
        for (int r = 0; r < ranks; ++r) {
            weights_of_all += double(plan_rank(plan, r).weights);
            planned += double(plan_rank(plan, r).total());
        }
        EXPECT_EQ(row["memory"]["weights_bytes"], weights_of_all);
        EXPECT_EQ(row["memory"]["planned_bytes"], planned);
        EXPECT_EQ(row["memory"]["device_peak_bytes"], nullptr) << "of a CPU";
        EXPECT_EQ(row["sampling"], nullptr);
        const json &prefill = row["prefill"], &decode = row["decode"];
        EXPECT_NEAR(prefill["tokens_per_s"].get<double>() * prefill["s"].get<double>(), 200, 1e-6);
        EXPECT_NEAR(decode["tokens_per_s"].get<double>() * decode["s"].get<double>(), 12, 1e-6);
        EXPECT_NEAR(prefill["percent_of_gemm"].get<double>(),
                    prefill["tflop_s"].get<double>() / 2 * 100, 1e-9);
        EXPECT_NEAR(decode["percent_of_bandwidth"].get<double>(),
                    decode["gb_s"].get<double>() / 50 * 100, 1e-9);
        EXPECT_EQ(row["repetition"], 1);
        if (ranks == 1) {  // weights once a step, and three caches of 48 tokens
            const double weights = double(model_bytes(model, shard_of(model, 1, 0), DType::F32)) -
                                   4.0 * model.vocab * model.d_model;
            EXPECT_EQ(decode["bytes_per_step"], weights + 3 * 48 * token);
        }
    }
}

TEST(Sweep, HasRoomForTheStepThatIsNotTimed) {
    RunConfig config = study();
    config.engine.page_tokens = "16";
    config.bench.prompts = {188};  // with 4 new tokens 12 whole pages
    config.bench.new_tokens = {4};
    for (const auto& [id, row] : sweep_rows(1, config))
        EXPECT_TRUE(row.contains("decode")) << id;
}

// By each sequence's own random numbers.
TEST(Sweep, SamplesStepsWhereItIsAskedTo) {
    const Sampling sampling{.temperature = 2, .top_p = 0.9, .seed = 3, .top_k = 40};
    RunConfig config = study();
    config.bench.policies = {"full"};
    const ModelConfig model = read_model_config(config.model.path);
    auto dev = make_cpu_backend(1);
    auto comm = make_self_communicator();
    Engine engine(*dev, *comm, Checkpoint::open(config.model.path),
                  study_plan(config, model, 1, 120));
    const std::vector<TokenId> prompt(120, 7);
    const auto from = measure_prefill(engine, prompt, {study_policies(config, model)[0]});
    EXPECT_GT(measure_decode(engine, from[0], 120, 3, 4, sampling).times[Phase::Sampling], 0);
    EXPECT_EQ(measure_decode(engine, from[0], 120, 3, 4).times[Phase::Sampling], 0);
    EXPECT_EQ(sampling_json(sampling),
              json({{"temperature", 2}, {"top_k", 40}, {"top_p", 0.9}, {"min_p", 0}}));
    EXPECT_EQ(sampling_json({.top_p = 0.5}), nullptr) << "temperature 0 takes the best";
}

TEST(Sweep, StopsBetweenRowsAndGoesOnWithTheOthers) {
    const RunConfig config = study();
    const auto first = sweep_rows(2, config, {}, 7);
    EXPECT_EQ(first.size(), 7u);
    std::set<std::string> done;
    for (const auto& [id, row] : first)
        done.insert(id);
    const auto rest = sweep_rows(2, config, done);
    EXPECT_EQ(rest.size(), 33u);
    for (const auto& [id, row] : rest)
        EXPECT_FALSE(done.contains(id));
}

json row(int prompt, double prefill, double decode) {
    return {{"kind", "cell"},
            {"policy", "cake"},
            {"cache_size", 64},
            {"prompt_tokens", prompt},
            {"batch", 1},
            {"new_tokens", 8},
            {"prefill", {{"tokens_per_s", prefill}, {"percent_of_gemm", 50}}},
            {"decode", {{"tokens_per_s", decode}, {"percent_of_bandwidth", nullptr}}},
            {"kv", {{"kept_bytes", 1024}, {"peak_bytes", 2048}, {"full_bytes", 4096}}}};
}

TEST(Tables, HoldMeanAndDeviationOfEachCombination) {
    json misfit = row(9999, 0, 0);
    misfit["fits"] = false;
    misfit["plan"] = {{"needed_bytes", 3u << 30}, {"free_bytes", 1 << 30}, {"context", 2048}};
    const std::vector<json> rows{row(100, 10, 1), row(200, 5, 1), row(100, 14, 3), misfit};
    const std::string table = markdown_table(rows);
    EXPECT_THAT(table, HasSubstr("| cake | 64 | 100 | 1 | 8 | 12.0 ± 2.8 | 50 | 2.0 ± 1.4 | 0 | "
                                 "1.0 KiB | 2.0 KiB | 4.0 KiB |"));
    EXPECT_THAT(table, HasSubstr("| 9999 | 1 | 8 | does not fit: 3.0 GiB needed, 1.0 GiB free"));
    const std::string csv = csv_table(rows);
    EXPECT_THAT(csv, HasSubstr("policy,cache_size,prompt_tokens,batch,new_tokens,n,"));
    EXPECT_THAT(csv, HasSubstr("\ncake,64,100,1,8,2,50,0,12,2.82842712,,,2,1.41421356,4096,0,"));
    EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 3);
}

TEST(Trace, IsScaledAndPlayedInItsOrder) {
    const std::string path = testing::TempDir() + "cake_trace.jsonl";
    std::ofstream(path)
        << R"({"timestamp": 5000, "input_length": 100, "output_length": 10, "hash_ids": [1]})"
        << "\n\n"
        << R"({"timestamp": 5400, "input_length": 60, "output_length": 1})"
        << "\n";
    RunConfig config = study();
    config.bench.requests = path;
    config.bench.time_scale = 0.5;
    config.bench.length_scale = 0.5;
    const auto trace = read_trace(config.bench);
    ASSERT_EQ(trace.size(), 2u);
    EXPECT_EQ(trace[0].input, 50);
    EXPECT_EQ(trace[1].output, 1);
    EXPECT_DOUBLE_EQ(trace[1].arrival_s, 0.2);

    auto dev = make_cpu_backend(1);
    auto comm = make_self_communicator();
    const ModelConfig model = read_model_config(config.model.path);
    config.policy.cache_size = 48;
    PlanInput plan = plan_input(config, model, 1, 50, 5);
    plan.shorter = true;
    plan.batch = 2;
    Engine engine(*dev, *comm, Checkpoint::open(config.model.path), plan);
    const json row = play_trace(engine, config, trace);
    EXPECT_EQ(row["requests"], 2);
    EXPECT_EQ(row["prompt_tokens"], 80);
    EXPECT_EQ(row["output_tokens"], 6);
    EXPECT_GE(row["wall_s"], 0.2);  // the second came no sooner
    EXPECT_LE(row["ttft_s"]["p50"], row["end_to_end_s"]["p99"]);
    EXPECT_EQ(engine.pool().in_use(), 0);

    std::ofstream(path) << R"({"timestamp": 1, "input_length": "x", "output_length": 1})";
    try {
        read_trace(config.bench);
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("cake_trace.jsonl:1: input_length is missing"));
    }
    std::filesystem::remove(path);
}

}  // namespace
}  // namespace cake::test
