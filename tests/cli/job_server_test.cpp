// The list of jobs and the file of results that replicas share.
#include "cli/job_server.h"

#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cake {
namespace {

using nlohmann::json;

std::vector<BatchJob> jobs(int n) {
    std::vector<BatchJob> out(static_cast<std::size_t>(n));
    for (int i = 0; i < n; ++i) {
        out[std::size_t(i)].request.id = std::to_string(i);
        out[std::size_t(i)].request.prompt = {1, 2, 3};
    }
    return out;
}

json result(const std::string& id) {
    return {{"id", id},
            {"prompt_tokens", 3},
            {"output_tokens", 2},
            {"finish_reason", "length"},
            {"timings", {{"ttft_s", 0.5}}}};
}

class JobServerTest : public testing::Test {
protected:
    std::string path = testing::TempDir() + "cake_job_server_" +
                       testing::UnitTest::GetInstance()->current_test_info()->name();
    void SetUp() override { std::filesystem::remove(path); }
    void TearDown() override { std::filesystem::remove(path); }
};

TEST_F(JobServerTest, TakesNoJobWhenTimeIsUpAndCountsThoseLeft) {
    ResultWriter results(path, "digest");
    JobServer server(jobs(5), results, "cake", false, true);
    server.take_none_after(WallClock::now() + std::chrono::hours(1));
    EXPECT_TRUE(server.take());
    EXPECT_TRUE(server.take());
    EXPECT_EQ(server.not_begun(), 0);
    server.take_none_after(WallClock::now());
    EXPECT_FALSE(server.take());
    EXPECT_FALSE(server.take());
    EXPECT_EQ(server.not_begun(), 3);
}

TEST_F(JobServerTest, GivesEachJobOnceToWhomeverAsks) {
    ResultWriter results(path, "digest");
    JobServer server(jobs(200), results, "cake", true, true);
    std::vector<std::thread> leaders;
    for (int i = 0; i < 4; ++i)
        leaders.emplace_back([&] {
            while (const auto job = server.take()) {
                server.count_tokens(2);
                server.finish(result(job->request.id), {1.0, 2.0});
            }
        });
    for (std::thread& leader : leaders)
        leader.join();
    std::set<std::string> seen;
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);)
        EXPECT_TRUE(seen.insert(json::parse(line)["id"]).second) << line;
    EXPECT_EQ(seen.size(), 200u);
    EXPECT_EQ(server.summary().jobs(), 200);
    EXPECT_EQ(server.kept().size(), 200u);
    EXPECT_EQ(server.kept()[0]["policy"], "cake");
}

TEST_F(JobServerTest, AnswersForJobsThatCannotBeDone) {
    ResultWriter results(path, "digest");
    auto some = jobs(3);
    some[0].error = some[2].error = "no";
    JobServer server(std::move(some), results, "cake", true, true);
    const auto job = server.take();
    ASSERT_TRUE(job);
    EXPECT_EQ(job->request.id, "1");
    EXPECT_FALSE(server.take());
    EXPECT_EQ(server.summary().failed(), 2);
    EXPECT_EQ(server.kept()[1]["finish_reason"], "error");
    EXPECT_EQ(server.kept()[1]["error"], "no");
    EXPECT_EQ(server.kept()[1]["timings"], nullptr);
}

TEST_F(JobServerTest, RemembersThatAResultCouldNotBeWritten) {
    ResultWriter results("/dev/full", "digest");
    JobServer server(jobs(2), results, "cake", false, true);
    EXPECT_NO_THROW(server.check());
    server.take();
    std::thread other([&] { EXPECT_THROW(server.finish(result("0"), {}), Error); });
    other.join();
    EXPECT_THROW(server.check(), Error);
    EXPECT_THROW(server.finish(result("1"), {}), Error);
}

TEST(BatchLine, SaysHowFarItIsAndHowLongItTakes) {
    EXPECT_EQ(batch_line(12, 60, 3, 412, 10), "12 of 60 done, 3 running, 41.2 tokens/s, 0:40 left");
    EXPECT_EQ(batch_line(0, 60, 1, 0, 0), "0 of 60 done, 1 running, 0.0 tokens/s");
}

TEST(BatchJob, KeepsWhatAJobSetsOnItsWayToAnotherRank) {
    BatchJob job = jobs(1)[0];
    job.request.max_new_tokens = 7;
    job.request.sampling = {.temperature = 0.5, .seed = 12345678901234567890u};
    job.stop = {"\n", "é"};
    const Sampling common{.top_p = 0.9, .top_k = 3};
    const BatchJob there = decode_job(encode_job(job), common);
    EXPECT_EQ(there.request.id, "0");
    EXPECT_EQ(there.request.prompt, job.request.prompt);
    EXPECT_EQ(there.request.max_new_tokens, 7);
    EXPECT_EQ(there.request.sampling.temperature, 0.5);
    EXPECT_EQ(there.request.sampling.seed, 12345678901234567890u);
    EXPECT_EQ(there.request.sampling.top_p, 0.9);
    EXPECT_EQ(there.request.sampling.top_k, 3);
    EXPECT_EQ(there.stop, job.stop);
}

TEST(BatchSummary, AddsUpJobsAndSortsTimes) {
    BatchSummary summary;
    for (int i = 1; i <= 100; ++i) {
        json r = result(std::to_string(i));
        r["timings"]["ttft_s"] = i;
        summary.add(r, std::vector<double>{double(i)});
    }
    summary.add({{"finish_reason", "error"}}, {});
    const json phase = {{"observe_s", 1}, {"evict_s", 2}, {"all_reduce_s", 3}, {"total_s", 40}};
    const json report = {{"time", {{"prefill", phase}, {"decode", phase}}},
                         {"memory", {{"kv_peak_bytes", {10, 20}}, {"kv_full_bytes", {100, 200}}}}};
    const json s = summary.to_json(report, 5, 100);
    EXPECT_EQ(s["jobs"], 101);
    EXPECT_EQ(s["failed"], 1);
    EXPECT_EQ(s["done_before"], 5);
    EXPECT_EQ(s["prompt_tokens"], 300);
    EXPECT_EQ(s["output_tokens_per_s"], 2.0);
    EXPECT_EQ(s["ttft_s"]["p50"], 51);
    EXPECT_EQ(s["ttft_s"]["p99"], 100);
    EXPECT_EQ(s["inter_token_ms"]["p90"], 91);
    EXPECT_EQ(s["kv_peak_bytes"], 30);
    EXPECT_EQ(s["time_share"]["prefill"], 0.4);
    EXPECT_EQ(s["time_share"]["evict"], 0.06);
    EXPECT_THAT(summary_text(s),
                testing::HasSubstr("101 jobs in 1:40, 1 of them failed, 5 done before"));
}

}  // namespace
}  // namespace cake
