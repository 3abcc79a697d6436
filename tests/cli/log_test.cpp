// What a run leaves for people to look into afterwards: logs of each rank, and where it ran.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "cli/batch_fixture.h"
#include "config/model_config.h"

namespace cake::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class LogsOfARun : public BatchFixture {
protected:
    ProgramOptions in_slurm{.environment = {{"SLURM_JOB_ID", "4711"},
                                            {"SLURM_RESTART_COUNT", "2"},
                                            {"SLURM_ARRAY_TASK_ID", "9"}}};
};

TEST_F(LogsOfARun, AreOneForEachRankWithAllDetails) {
    write_jobs(4, 4);
    const auto result = run_program_on_ranks(
        2, batch("out.jsonl", {"--set", "parallel.tensor=1", "--log-dir", file("logs")}), in_slurm);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.err, Not(HasSubstr("debug")));
    std::string jobs;  // each was done by one of the two replicas
    for (int rank : {0, 1}) {
        const std::string log = read(fmt::format("logs/rank-{}.log", rank));
        const std::string name = fmt::format(" rank {} ", rank);
        EXPECT_THAT(
            log, AllOf(HasSubstr(fmt::format("rank {} of 2", rank)), HasSubstr("configuration: {"),
                       HasSubstr("\"job_id\":\"4711\""), HasSubstr("debug: loaded in "),
                       HasSubstr("debug: ends with exit code 0\n")));
        std::istringstream lines(log);
        for (std::string line; std::getline(lines, line);)
            EXPECT_THAT(line, HasSubstr(name));
        jobs += log;
    }
    for (int i = 0; i < 4; ++i)
        EXPECT_THAT(jobs, HasSubstr(fmt::format("debug: job job{}: ", i)));
}

TEST_F(LogsOfARun, HaveTheErrorThatEndedIt) {
    write("jobs.jsonl", "");
    const auto result = run_program_on_ranks(
        2, batch("out.jsonl", {"--backend", "cuda", "--log-dir", file("logs")}));
    EXPECT_EQ(result.exit_code, 2);
    for (int rank : {0, 1})
        EXPECT_THAT(read(fmt::format("logs/rank-{}.log", rank)),
                    HasSubstr("debug: ends with exit code 2: --backend cuda: "));
}

// A tokenizer that is not there is a warning of every rank that leads a replica.
TEST_F(LogsOfARun, HaveWarningsOfAllRanksAndTheTerminalHasOne) {
    write_jobs(2, 2);
    const auto result = run_program_on_ranks(
        2, batch("out.jsonl", {"--set", "parallel.tensor=1", "--log-dir", file("logs")}));
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const std::string warning = "warning: no tokenizer";
    const std::size_t first = result.err.find(warning);
    ASSERT_NE(first, std::string::npos) << result.err;
    EXPECT_EQ(result.err.find(warning, first + 1), std::string::npos) << result.err;
    for (int rank : {0, 1})
        EXPECT_THAT(read(fmt::format("logs/rank-{}.log", rank)), HasSubstr(warning));
}

TEST_F(LogsOfARun, AreRefusedOnceWhereTheyCannotBeWritten) {
    write_jobs(1, 2);
    const auto result =
        run_program_on_ranks(2, batch("out.jsonl", {"--log-dir", file("jobs.jsonl")}));
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, HasSubstr("cake: error: the log's folder "));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

TEST_F(LogsOfARun, GoWithAReportThatNamesTheSlurmJob) {
    write_jobs(1, 2);
    const auto report = [&](const ProgramOptions& options) {
        std::filesystem::remove(file("out.jsonl"));
        const auto result =
            run_program(batch("out.jsonl", {"--report", file("report.json")}), options);
        EXPECT_EQ(result.exit_code, 0) << result.err;
        return nlohmann::json::parse(read("report.json"));
    };
    const nlohmann::json expected{{"job_id", "4711"}, {"restart_count", 2}, {"array_task_id", "9"}};
    EXPECT_EQ(report(in_slurm)["machine"]["slurm"], expected);
    EXPECT_TRUE(report({})["machine"]["slurm"].is_null());
}

class ProfileOfARun : public BatchFixture {};

// What a rank does is in its one stream, so its phases do not overlap.
TEST_F(ProfileOfARun, SaysWhenEachRankWasBusyWithWhat) {
    write_jobs(3, 4);
    const auto result = run_program_on_ranks(2, batch("out.jsonl", {"--profile", file("p.json")}));
    ASSERT_EQ(result.exit_code, 0) << result.err;
    std::map<int, std::map<double, double>> ends;  // of a rank's phases, by when they begin
    std::map<int, std::set<std::string>> names;
    std::set<int> layers;
    const nlohmann::json events = nlohmann::json::parse(read("p.json"))["traceEvents"];
    for (const nlohmann::json& e : events) {
        if (e["ph"] == "M")
            continue;
        const double begin = e["ts"], duration = e["dur"];
        EXPECT_GE(begin, 0);
        EXPECT_GE(duration, 0);
        ends[e["pid"]][begin] = begin + duration;
        names[e["pid"]].insert(e["cat"].get<std::string>() + " " + e["name"].get<std::string>());
        if (e["name"] == "attention")
            layers.insert(e["args"]["layer"].get<int>());
    }
    ASSERT_EQ(ends.size(), 2u);
    for (const auto& [rank, spans] : ends) {
        double last_end = 0;
        for (const auto& [begin, end] : spans) {
            EXPECT_GE(begin, last_end - 0.01) << "rank " << rank;  // of a microsecond
            last_end = end;
        }
        for (const char* name :
             {"prefill linear", "prefill attention", "prefill observe", "prefill evict",
              "prefill all_reduce", "decode linear", "decode attention", "decode all_reduce"})
            EXPECT_TRUE(names[rank].contains(name)) << name << " of rank " << rank;
    }
    const int n_layers = read_model_config(model).n_layers;
    EXPECT_EQ(int(layers.size()), n_layers);
    EXPECT_EQ(*layers.begin(), 0);
}

TEST_F(ProfileOfARun, IsRefusedWhereItCannotBeWritten) {
    write_jobs(1, 2);
    const auto result = run_program(batch("out.jsonl", {"--profile", file("nowhere/p.json")}));
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, HasSubstr("nowhere/p.json: cannot be written"));
}

}  // namespace
}  // namespace cake::test
