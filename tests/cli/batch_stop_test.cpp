// `cake batch` that is signalled and killed: no job is lost, none is done twice.
#include <csignal>
#include <random>
#include <sys/stat.h>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/batch_fixture.h"

namespace cake::test {
namespace {

using testing::HasSubstr;

class BatchStop : public BatchFixture {};

TEST_F(BatchStop, EndsInGoodOrderOnASignalAndGoesOnLater) {
    write_jobs(40, 240);
    ASSERT_EQ(run_program(batch("whole.jsonl")).exit_code, 0);
    struct Case {
        int ranks;
        std::string tensor;
        int signal;
    };
    for (const auto& [ranks, tensor, signal] :
         {Case{1, "all", SIGTERM}, {1, "all", SIGUSR1}, {2, "all", SIGUSR1}, {2, "1", SIGUSR1}}) {
        std::filesystem::remove(file("out.jsonl"));
        const ProgramOptions options{.signals = {{has_results("out.jsonl"), signal}}};
        const auto args = batch("out.jsonl", {"--set", "parallel.tensor=" + tensor});
        const ProgramResult r =
            ranks == 1 ? run_program(args, options) : run_program_on_ranks(ranks, args, options);
        EXPECT_EQ(r.exit_code, 75) << r.err;
        const auto before = tokens("out.jsonl");
        EXPECT_LT(before.size(), 40u);
        EXPECT_THAT(r.err, HasSubstr("start again with the same files to go on"));
        EXPECT_EQ(run_program(batch("out.jsonl")).exit_code, 0);
        EXPECT_EQ(tokens("out.jsonl"), tokens("whole.jsonl"));
    }
}

TEST_F(BatchStop, EndsInGoodOrderWhenItsScriptIsTerminated) {
    write_jobs(40, 240);
    auto args = batch("out.jsonl");
    args.insert(args.begin(), {CAKE_SOURCE_DIR "/launch/mpirun.sh", "2"});
    const ProgramResult r = run_command(
        args,
        {.environment = {{"CAKE_BIN", std::getenv("CAKE_PROGRAM")}, {"CAKE_OVERSUBSCRIBE", "1"}},
         .signals = {{has_results("out.jsonl"), SIGTERM}}});
    EXPECT_EQ(r.exit_code, 75) << r.err;
    EXPECT_THAT(r.err, HasSubstr("start again with the same files to go on"));
    EXPECT_LT(tokens("out.jsonl").size(), 40u);
}

TEST_F(BatchStop, EndsAtOnceOnASecondSignal) {
    // Its jobs never come, so the first signal alone would not end it.
    std::vector<std::string> args = batch("out.jsonl");
    args[4] = file("jobs.fifo");
    ASSERT_EQ(mkfifo(args[4].c_str(), 0600), 0);
    const ProgramResult r = run_program(
        args, {.timeout_s = 20, .signals = {{after(0.5), SIGTERM}, {after(1.0), SIGTERM}}});
    EXPECT_FALSE(r.timed_out);
    EXPECT_EQ(r.exit_code, 75) << r.err;
}

// Ranks that outlive their mpirun for a moment hold the file's lock: then it is tried again.
ProgramResult run_when_free(int ranks, const std::vector<std::string>& args,
                            const ProgramOptions& options) {
    for (;;) {
        const ProgramResult r =
            ranks == 1 ? run_program(args, options) : run_program_on_ranks(ranks, args, options);
        if (r.err.find("another running job") == std::string::npos)
            return r;
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
}

TEST_F(BatchStop, LosesNoJobAndRepeatsNoneHoweverOftenItIsKilled) {
    write_jobs(30, 60);
    ASSERT_EQ(run_program(batch("quiet.jsonl")).exit_code, 0);
    std::mt19937 random(7);
    int interrupted = 0;
    for (int kill = 0; kill < 20; ++kill) {
        if (kill % 5 == 0)
            std::filesystem::remove(file("out.jsonl"));  // four rounds of five kills
        const int ranks = kill % 2 + 1;
        const double after_s = 0.05 + double(random() % 400) / 1000;
        const ProgramResult r = run_when_free(ranks, batch("out.jsonl"), {.timeout_s = after_s});
        interrupted += r.timed_out;
        EXPECT_TRUE(r.timed_out || r.exit_code == 0) << r.err;
        if (kill % 5 == 4) {
            const ProgramResult last = run_when_free(1, batch("out.jsonl"), {});
            ASSERT_EQ(last.exit_code, 0) << last.err;
            EXPECT_EQ(tokens("out.jsonl"), tokens("quiet.jsonl"));
        }
    }
    EXPECT_GT(interrupted, 5);
}

}  // namespace
}  // namespace cake::test
