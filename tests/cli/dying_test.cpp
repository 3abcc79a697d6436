// How a run ends when a rank dies or hangs; dying_slow_test.cpp has all ways and parts.
#include <csignal>

#include <gtest/gtest.h>

#include "cli/dying_fixture.h"

namespace cake::test {
namespace {

TEST_F(DyingRank, ThatIsKilledIsNamedByAnother) { expect_end(way_to_die("kill"), "decode", 3); }
TEST_F(DyingRank, ThatCrashesNamesItself) { expect_end(way_to_die("segv"), "prefill", 2); }
TEST_F(DyingRank, ThatHangsIsAccusedByThoseThatWait) {
    expect_end(way_to_die("hang"), "prefill", 3);
}

TEST_F(DyingRank, AloneSaysSoToo) {
    for (const auto& [how, code] : {std::pair("segv", 139), {"exit", 3}}) {
        const ProgramResult r = run_program(
            batch("out.jsonl"),
            {.environment = {{"CAKE_FAULT", "rank=0 part=decode how=" + std::string(how)}}});
        EXPECT_EQ(r.exit_code, code);
        EXPECT_THAT(r.err, testing::HasSubstr("cake: error: rank 0 on " + host_name() +
                                              ", decode, layer 0: " + way_to_die(how).why + "\n"));
    }
}

TEST_F(DyingRank, LeavesItsLastWordInALog) {
    for (const auto& [how, rank] : {std::pair("segv", 1), {"exit", 1}, {"kill", 0}}) {
        const ProgramResult r = run_program_on_ranks(
            2, batch("out.jsonl", {"--threads", "1", "--log-dir", file(how)}),
            {.environment = {{"CAKE_FAULT", "rank=1 part=prefill how=" + std::string(how)}}});
        EXPECT_NE(r.exit_code, 0);
        const std::string log = read(std::string(how) + "/rank-" + std::to_string(rank) + ".log");
        EXPECT_THAT(log, testing::HasSubstr("cake: error: rank 1 on " + host_name() + ", prefill"));
        EXPECT_THAT(log, testing::HasSubstr(way_to_die(how).why));
        EXPECT_EQ(log.find("/cake(") != std::string::npos, std::string(how) == "segv") << log;
    }
}

// All of them: nobody may be accused of what nobody did.
TEST_F(DyingRank, IsNotWhatAJobIsTakenForThatWasStopped) {
    write_jobs(40, 240);
    const std::string stop_all = fmt::format(
        "pids() {{ for p in $(pgrep -P $1); do echo $p; pids $p; done; }}; "
        "\"$@\" & m=$!; while [ ! -s '{0}' ]; do sleep 0.02; done; kill -STOP $(pids $m); "
        "wc -l < '{0}'; sleep 3; kill -CONT $(pids $m); wait $m",
        file("out.jsonl"));
    std::vector<std::string> command{"bash",
                                     "-c",
                                     stop_all,
                                     "bash",
                                     std::getenv("CAKE_MPIEXEC"),
                                     "--oversubscribe",
                                     "-n",
                                     "2",
                                     std::getenv("CAKE_PROGRAM")};
    for (const std::string& word : batch("out.jsonl", {"--set", "comm.timeout_s=1"}))
        command.push_back(word);
    const ProgramResult r = run_command(command);
    EXPECT_EQ(r.exit_code, 0) << r.err;
    EXPECT_LT(std::stoi(r.out), 40) << "it was over before it was stopped";
    EXPECT_EQ(tokens("out.jsonl").size(), 40u);
}

}  // namespace
}  // namespace cake::test
