// A batch that ends before Slurm ends it: --time-limit-margin.
#include "cli/time_limit.h"

#include <ctime>

#include <gmock/gmock.h>

#include "cli/batch_fixture.h"

namespace cake::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(SlurmTime, IsReadAsSqueuePrintsIt) {
    EXPECT_EQ(parse_slurm_time("0:59"), 59);
    EXPECT_EQ(parse_slurm_time("03:04"), 184);
    EXPECT_EQ(parse_slurm_time("2:03:04"), 7384);
    EXPECT_EQ(parse_slurm_time("1-02:03:04"), 93784);
    for (const char* none : {"UNLIMITED", "INVALID", "NOT_SET", "", "5", "1:2:3:4", "-1:00"})
        EXPECT_FALSE(parse_slurm_time(none)) << none;
}

class TimeLimitMargin : public BatchFixture {
protected:
    using Environment = std::vector<std::pair<std::string, std::optional<std::string>>>;
    ProgramResult run(int ranks, const Environment& environment,
                      std::vector<std::string> more = {}) {
        more.insert(more.end(), {"--time-limit-margin", "60"});
        const auto args = batch("out.jsonl", more);
        const ProgramOptions options{.environment = environment};
        return ranks == 1 ? run_program(args, options) : run_program_on_ranks(ranks, args, options);
    }
    static Environment ends_in(int seconds) {
        return {{"SLURM_JOB_ID", "7"},
                {"SLURM_JOB_END_TIME", std::to_string(std::time(nullptr) + seconds)}};
    }
    // A squeue that prints this instead of Slurm's.
    Environment squeue_says(const std::string& text) {
        write("squeue",
              "#!/bin/sh\necho \"$@\" >" + file("squeue.args") + "\necho '" + text + "'\n");
        std::filesystem::permissions(folder / "squeue", std::filesystem::perms::owner_all);
        return {{"SLURM_JOB_ID", "7"},
                {"SLURM_JOB_END_TIME", std::nullopt},
                {"PATH", folder.string() + ":" + std::getenv("PATH")}};
    }
};

TEST_F(TimeLimitMargin, LetsABatchWithTimeDoAll) {
    write_jobs(3, 2);
    const auto result = run(1, ends_in(3600));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(tokens("out.jsonl").size(), 3u);
}

TEST_F(TimeLimitMargin, BeginsNothingWhereLessIsLeftAndGoesOnLater) {
    write_jobs(3, 2);
    for (int ranks : {1, 2}) {
        const auto result = run(ranks, ends_in(50));
        EXPECT_EQ(result.exit_code, 75) << result.err;
        EXPECT_THAT(result.err,
                    HasSubstr("less than 60 s are left of the Slurm job, and 3 jobs are not begun: "
                              "start again with the same files to go on"));
        EXPECT_EQ(tokens("out.jsonl").size(), 0u);
    }
    EXPECT_EQ(run(2, ends_in(3600)).exit_code, 0);
    EXPECT_EQ(tokens("out.jsonl").size(), 3u);
}

// The margin begins a few seconds into the batch. Jobs that run then are finished, whichever replica has them.
TEST_F(TimeLimitMargin, FinishesWhatRunsWhenTimeIsShort) {
    write_jobs(4000, 120);
    for (int ranks : {1, 2}) {
        std::filesystem::remove(file("out.jsonl"));
        const auto result =
            run(ranks, ends_in(63 + 2 * ranks), {"--set", "parallel.tensor=1", "--max-batch", "2"});
        EXPECT_EQ(result.exit_code, 75) << result.err;
        EXPECT_THAT(result.err, HasSubstr("jobs are not begun: start again"));
        const auto done = tokens("out.jsonl");
        EXPECT_GT(done.size(), 0u);
        EXPECT_LT(done.size(), 4000u);
        for (const auto& [id, ids] : done)
            EXPECT_EQ(ids.size(), std::size_t(120 + std::stoi(id.substr(3)) % 7)) << id;
    }
}

TEST_F(TimeLimitMargin, AsksSqueueWhereSlurmSetsNoVariable) {
    write_jobs(3, 2);
    EXPECT_EQ(run(1, squeue_says("0:50")).exit_code, 75);
    EXPECT_THAT(read("squeue.args"), AllOf(HasSubstr("--jobs=7"), HasSubstr("%L")));
    const auto unlimited = run(1, squeue_says("UNLIMITED"));
    EXPECT_EQ(unlimited.exit_code, 0);
    EXPECT_THAT(unlimited.err, Not(HasSubstr("--time-limit-margin")));
}

TEST_F(TimeLimitMargin, SaysSoWhereNobodyKnowsTheEnd) {
    write_jobs(1, 2);
    const auto result = run(2, squeue_says(""));
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.err, HasSubstr("warning: --time-limit-margin: the end of the job is not "
                                      "known, SLURM_JOB_END_TIME is not set"));
    std::filesystem::remove(file("out.jsonl"));
    EXPECT_THAT(run(1, {{"SLURM_JOB_ID", std::nullopt}}).err, HasSubstr("this is no Slurm job"));
}

// Else it would end at once, be queued again, and so on.
TEST_F(TimeLimitMargin, IsLessThanTheWholeJob) {
    write_jobs(1, 2);
    auto environment = ends_in(50);
    environment.emplace_back("SLURM_JOB_START_TIME", std::to_string(std::time(nullptr)));
    const auto result = run(1, environment);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, HasSubstr("--time-limit-margin is 60 s, and the whole job has "));
}

TEST_F(TimeLimitMargin, IsNoNegativeNumber) {
    write_jobs(1, 2);
    EXPECT_EQ(run_program(batch("out.jsonl", {"--time-limit-margin", "-5"})).exit_code, 2);
}

}  // namespace
}  // namespace cake::test
