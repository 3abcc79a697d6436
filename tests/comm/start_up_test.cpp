// A rank that fails ends all, soon, with one message and the right exit code, as a shell sees it.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <sys/wait.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "base/timer.h"

namespace cake {
namespace {

using testing::HasSubstr;
using testing::Not;

struct Ended {
    int exit_code = -1;
    std::string output;  // of stdout and stderr
    double seconds = 0;
};

Ended shell(const std::string& command) {
    Ended ended;
    const Timer timer;
    FILE* pipe = popen(("exec 2>&1; " + command).c_str(), "r");
    std::array<char, 4096> buffer;
    while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe))
        ended.output.append(buffer.data(), n);
    const int status = pclose(pipe);
    ended.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    ended.seconds = timer.seconds();
    return ended;
}

const std::string kProgram = CAKE_COMM_START_UP;

Ended on_three_ranks(const std::string& how) {
    const char* mpiexec = std::getenv("CAKE_MPIEXEC");
    // orte_execute_quiet: mpirun itself does not comment on exit codes.
    return shell(
        "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1 "
        "OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_orte_execute_quiet=1 timeout 60 " +
        std::string(mpiexec ? mpiexec : "mpirun") + " --oversubscribe -n 3 " + kProgram + " '" +
        how + "'");
}

class StartUp : public testing::Test {
protected:
    void SetUp() override {
        if (std::string(CAKE_SANITIZE) == "thread")
            GTEST_SKIP() << "MPI does not run under ThreadSanitizer";
    }
};

TEST_F(StartUp, EndsWellWhereNobodyFails) {
    const Ended ended = on_three_ranks("nobody fails");
    EXPECT_EQ(ended.exit_code, 0);
    EXPECT_EQ(ended.output, "");
}

TEST_F(StartUp, EndsAllRanksWithOneMessageWhereOneFails) {
    const Ended ended = on_three_ranks("one fails");
    EXPECT_EQ(ended.exit_code, 2);
    EXPECT_EQ(ended.output,
              "cake: error: rank 2 on " + host_name() + ": no such file: model.gguf\n");
    EXPECT_LT(ended.seconds, 5);
}

TEST_F(StartUp, EndsAllRanksWithOneMessageWhereAllFail) {
    const Ended ended = on_three_ranks("all fail");
    EXPECT_EQ(ended.exit_code, 2);
    EXPECT_EQ(ended.output, "cake: error: no such file: model.gguf\n");
    EXPECT_LT(ended.seconds, 5);
}

TEST_F(StartUp, EndsRanksThatWaitForOneThatFailsLater) {
    const Ended ended = on_three_ranks("one fails later");
    EXPECT_EQ(ended.exit_code, 1);
    EXPECT_THAT(ended.output,
                HasSubstr("[rank 2 " + host_name() + "] cake: error: out of memory\n"));
    EXPECT_LT(ended.seconds, 5);
}

TEST_F(StartUp, EndsRanksThatWaitForOneWhoseWorldIsUnwound) {
    const Ended ended = on_three_ranks("one unwinds");
    EXPECT_EQ(ended.exit_code, 1);
    EXPECT_LT(ended.seconds, 5);
}

TEST_F(StartUp, EndsRanksThatWaitForOneThatIsKilled) {
    const Ended ended = on_three_ranks("one is killed");
    EXPECT_EQ(ended.exit_code, 134);
    EXPECT_LT(ended.seconds, 10);
}

TEST_F(StartUp, EndsRanksThatWaitForOneThatIsStopped) {
    const Ended ended = on_three_ranks("one is stopped");
    EXPECT_EQ(ended.exit_code, 1);
    EXPECT_THAT(
        ended.output,
        HasSubstr("cake: error: rank 0 on " + host_name() +
                  ", decode, layer 5: waits in barrier, call 2 of ranks 0, 1, 2, and for 1 s none "
                  "of them got anything done. Not come: rank 2 on " +
                  host_name() + ", in decode, layer 5."));
    EXPECT_LT(ended.seconds, 10);
}

TEST_F(StartUp, EndsRanksWhoseDevicesWaitForEachOther) {
    const Ended ended = on_three_ranks("GPUs wait");
    EXPECT_EQ(ended.exit_code, 1);
    EXPECT_EQ(std::count(ended.output.begin(), ended.output.end(), '\n'), 1) << ended.output;
    EXPECT_THAT(ended.output, HasSubstr("waits in work of the GPU, of ranks 0, 1, 2"));
    EXPECT_LT(ended.seconds, 10);
}

TEST_F(StartUp, EndsRanksThatWaitForAMessageOfOneThatHangs) {
    const Ended ended = on_three_ranks("a message does not come");
    EXPECT_EQ(ended.exit_code, 1);
    EXPECT_THAT(ended.output, HasSubstr("waits in message, call 1 of ranks 0, and for 1 s none of "
                                        "them got anything done. Not come: rank 0 on "));
    EXPECT_LT(ended.seconds, 10);
}

TEST_F(StartUp, EndsWhereOneDoesNotComeToTheEnd) {
    const Ended ended = on_three_ranks("one does not end");
    EXPECT_EQ(ended.exit_code, 1);
    EXPECT_THAT(ended.output, HasSubstr("another rank does not come to MPI's end"));
    EXPECT_LT(ended.seconds, 15);
}

TEST_F(StartUp, IsOneRankWithoutALauncher) {
    EXPECT_EQ(shell(kProgram + " 'nobody fails'").exit_code, 0);
    const Ended ended = shell(kProgram + " 'one fails'");
    EXPECT_EQ(ended.exit_code, 2);
    EXPECT_EQ(ended.output, "cake: error: no such file: model.gguf\n");
}

TEST_F(StartUp, RefusesToBeOneOfManySlurmTasksThatDoNotKnowEachOther) {
    const Ended ended = shell("SLURM_STEP_NUM_TASKS=4 " + kProgram + " 'nobody fails'");
    EXPECT_EQ(ended.exit_code, 2);
    EXPECT_THAT(ended.output, HasSubstr("srun --mpi=pmix"));
    EXPECT_EQ(shell("SLURM_STEP_NUM_TASKS=1 " + kProgram + " 'nobody fails'").exit_code, 0);
}

TEST_F(StartUp, RefusesToBeOneOfManyRanksOfAnotherMpi) {
    const Ended ended = shell("PMI_SIZE=4 PMI_RANK=0 " + kProgram + " 'nobody fails'");
    EXPECT_EQ(ended.exit_code, 2);
    EXPECT_THAT(ended.output, HasSubstr("mpirun started 4 ranks, but MPI sees 1"));
}

// One message is enough, and it is that of the first.
TEST_F(StartUp, LetsTheFirstOfLostTasksSpeak) {
    const std::string task = "SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=";
    EXPECT_THAT(shell(task + "0 " + kProgram + " 'nobody fails'").output, HasSubstr("srun"));
    const Ended second = shell(task + "1 " + kProgram + " 'nobody fails'");
    EXPECT_EQ(second.exit_code, 2);
    EXPECT_THAT(second.output, Not(HasSubstr("srun")));
}

// In a batch script one process is right, whatever the job may start later.
TEST_F(StartUp, TakesABatchScriptsProcessForOneRank) {
    EXPECT_EQ(shell("SLURM_JOB_ID=7 SLURM_NTASKS=8 SLURM_PROCID=0 " + kProgram + " 'nobody fails'")
                  .exit_code,
              0);
}

// Its daemons are tasks of a step of their own.
TEST_F(StartUp, TakesMpirunWithinSlurmAtItsWord) {
    const char* mpiexec = std::getenv("CAKE_MPIEXEC");
    const Ended ended =
        shell("OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 timeout 60 " +
              std::string(mpiexec ? mpiexec : "mpirun") +
              " --oversubscribe -n 1 -x SLURM_STEP_NUM_TASKS=4 -x SLURM_PROCID=0 " + kProgram +
              " 'nobody fails'");
    EXPECT_EQ(ended.exit_code, 0) << ended.output;
}

}  // namespace
}  // namespace cake
