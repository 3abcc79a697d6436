// `cake doctor`: what it says of ranks, hosts and links, by itself and as people start it.
#include <algorithm>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>

#include "base/log.h"
#include "cli/doctor_hosts.h"
#include "cli/doctor_links.h"
#include "cli/doctor_ranks.h"
#include "support/golden.h"
#include "support/run_program.h"
#include "support/temp_folder.h"
#include "support/thread_comm.h"

namespace cake::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// ---- what is wrong with ranks ------------------------------------------------------------------
json rank_on(const std::string& host, int rank, std::vector<int> cpus) {
    return {{"rank", rank},
            {"host", host},
            {"cpus", cpus},
            {"processors", 4},
            {"threads", 1},
            {"yields", false},
            {"free_bytes", std::size_t(8) << 30},
            {"total_bytes", std::size_t(16) << 30}};
}

TEST(CpuList, JoinsRuns) {
    EXPECT_EQ(cpu_list({}), "");
    EXPECT_EQ(cpu_list({5}), "5");
    EXPECT_EQ(cpu_list({0, 1, 2, 3, 8, 10, 11}), "0-3,8,10-11");
}

TEST(PlacementWarnings, AreNoneWhereEachRankHasACpu) {
    std::vector<json> ranks;
    for (int r = 0; r < 4; ++r)
        ranks.push_back(rank_on("a", r, {r}));
    for (int r = 4; r < 8; ++r)
        ranks.push_back(rank_on("b", r, {0, 1, 2, 3}));
    EXPECT_THAT(placement_warnings(ranks), IsEmpty());
}

TEST(PlacementWarnings, NameRanksThatWouldSpinForEachOthersCpu) {
    std::vector<json> ranks;
    for (int r = 0; r < 5; ++r)
        ranks.push_back(rank_on("a", r, {0, 1, 2, 3}));
    EXPECT_THAT(placement_warnings(ranks),
                ElementsAre(AllOf(HasSubstr("a: 5 ranks on 4 CPUs, and one that waits keeps"),
                                  HasSubstr("OMPI_MCA_mpi_yield_when_idle=1"))));
    for (json& rank : ranks)
        rank["yields"] = true;
    EXPECT_THAT(placement_warnings(ranks),
                ElementsAre(HasSubstr("a: 5 ranks take turns on 4 CPUs")));
}

TEST(PlacementWarnings, NameRanksBoundToTheSameCpus) {
    EXPECT_THAT(
        placement_warnings({rank_on("a", 0, {0, 1}), rank_on("a", 1, {2}), rank_on("a", 2, {2})}),
        ElementsAre(AllOf(HasSubstr("a: ranks 1, 2 are bound to the same 1 CPU (2) of 4"),
                          HasSubstr("--bind-to none"))));
}

TEST(PlacementWarnings, NameRanksBoundToAPartOfTheirHost) {
    EXPECT_THAT(placement_warnings({rank_on("a", 0, {0}), rank_on("a", 1, {1})}),
                ElementsAre(HasSubstr("a: its ranks may use 2 CPUs of 4")));
}

TEST(PlacementWarnings, NameThreadsBeyondTheCpus) {
    json rank = rank_on("a", 0, {0, 1, 2, 3});
    rank["threads"] = 8;
    EXPECT_THAT(placement_warnings({rank}),
                ElementsAre(HasSubstr("a: its ranks have 8 threads on 4 CPUs")));
}

TEST(PlacementWarnings, NameHostsWithoutMemory) {
    json rank = rank_on("a", 0, {0, 1, 2, 3});
    rank["free_bytes"] = std::size_t(100) << 20;
    EXPECT_THAT(placement_warnings({rank, rank_on("b", 1, {0, 1, 2, 3})}),
                ElementsAre(HasSubstr("a: 100.0 MiB of 16.0 GiB are free for 1 ranks")));
}

// ---- sums and hosts ----------------------------------------------------------------------------
TEST(TimeSums, GivesAllRanksTheSameTimes) {
    run_ranks(2, [](Communicator& comm) {
        const auto dev = make_cpu_backend(1);
        // Rank 1 has no room for the largest.
        const std::size_t room = comm.rank() == 0 ? std::size_t(1) << 40 : std::size_t(16) << 20;
        const auto sums = time_sums(*dev, comm, room);
        std::string times;
        for (const SumTime& sum : sums)
            times += fmt::format("{} ", sum.seconds);
        const auto all = comm.gather_strings(times);
        EXPECT_EQ(all[0], all[1]);
        ASSERT_EQ(sums.size(), 4u);
        for (int i : {0, 1, 2})
            EXPECT_GT(sums[std::size_t(i)].seconds, 0);
        EXPECT_EQ(sums[3].seconds, 0);
        EXPECT_EQ(sums[3].why_not, "memory is short");
    });
}

TEST(TimeSums, StandBesideWhatTheMachinesLinksGive) {
    Machine machine;
    machine.devices_per_node = 4;
    machine.link_gb_s = 10;
    machine.link_latency_us = 5;
    const std::vector<SumTime> sums{{16, 2e-3, ""}, {4 << 20, 1e-3, ""}, {256 << 20, 0, "no room"}};
    const json rows = sums_json("MPI", sums, 4, &machine);
    EXPECT_DOUBLE_EQ(rows[1]["bus_gb_s"].get<double>(), (4 << 20) * 1.5 / 1e-3 / 1e9);
    EXPECT_NEAR(rows[1]["machine_seconds"].get<double>(), 5e-6 + (4 << 20) * 1.5 / 10e9, 1e-9);
    EXPECT_TRUE(rows[2]["seconds"].is_null());
    EXPECT_THAT(
        link_warnings(rows),
        ElementsAre(HasSubstr("a sum of 16 B over MPI takes 2.0 ms, and a token needs two")));
    machine.link_gb_s = 1000;
    EXPECT_THAT(link_warnings(sums_json("MPI", sums, 4, &machine)),
                Contains(HasSubstr("a sum of 4.0 MiB over MPI takes 1 ms, on the machine")));
}

TEST(DistinctHosts, KeepsTheOrderOfTheirRanks) {
    EXPECT_THAT(distinct_hosts({"b", "b", "a", "b", "c"}), ElementsAre("b", "a", "c"));
}

// ---- the program -------------------------------------------------------------------------------
class Doctor : public testing::Test {
protected:
    TempFolder folder;
    std::string report = folder.file("report.json");
    std::string model = golden_path("tiny-llama") + "/model";

    json read_report() const { return json::parse(std::ifstream(report)); }
};

TEST_F(Doctor, ShowsRanksSumsFoldersAndModelInTenSeconds) {
    const auto result =
        run_program_on_ranks(2, {"doctor", "--model", model, "--machine", "cpu", "--output",
                                 folder.file("out.jsonl"), "--report", report});
    ASSERT_EQ(result.exit_code, 0) << result.out << result.err;
    EXPECT_THAT(result.out, AllOf(HasSubstr("2 ranks on 1 host"), HasSubstr("all-reduce over MPI"),
                                  HasSubstr("64.0 KiB"), HasSubstr("folder .: seen by all hosts"),
                                  HasSubstr("folder " + folder.path() + ": seen by all hosts"),
                                  HasSubstr("model " + model + ": llama, ")));
    const json seen = read_report();
    EXPECT_EQ(seen["schema"], "cake.doctor/1");
    ASSERT_EQ(seen["ranks"].size(), 2u);
    for (int r : {0, 1}) {
        const json& rank = seen["ranks"][std::size_t(r)];
        EXPECT_EQ(rank["rank"], r);
        EXPECT_EQ(rank["host"], host_name());
        EXPECT_EQ(rank["version"], CAKE_VERSION);
        EXPECT_FALSE(rank["cpus"].empty());
        EXPECT_GT(rank["free_bytes"].get<double>(), 0);
    }
    ASSERT_EQ(seen["all_reduce"].size(), 4u);
    for (const json& sum : seen["all_reduce"])
        EXPECT_GT(sum["machine_seconds"].get<double>(), 0);
    for (int i : {0, 1, 2})
        EXPECT_GT(seen["all_reduce"][std::size_t(i)]["seconds"].get<double>(), 0);
    EXPECT_GT(seen["model"]["weights_bytes"].get<double>(), 1e6);
    EXPECT_LT(seen["seconds"].get<double>(), 30);  // 1 s on a quiet machine
    for (const auto& left : std::filesystem::directory_iterator(folder.path()))
        EXPECT_EQ(left.path().filename(), "report.json");
}

TEST_F(Doctor, NeedsNoMoreThanOneRank) {
    const auto result = run_program({"doctor"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out, AllOf(HasSubstr("1 rank on 1 host"), Not(HasSubstr("all-reduce"))));
    const auto in_slurm = run_program({"doctor"}, {.environment = {{"SLURM_NTASKS", "8"}}});
    EXPECT_THAT(in_slurm.out, HasSubstr("warning: this Slurm job has 8 tasks, and this is one"));
}

TEST_F(Doctor, FailsWhereTheModelIsNot) {
    const auto result = run_program_on_ranks(2, {"doctor", "--model", folder.file("none")});
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.out,
                HasSubstr("error: " + folder.file("none") + ": there is no such model"));
}

// Two hosts that share no folder: the same words mean different places.
TEST_F(Doctor, NamesTheHostThatDoesNotShareAFolder) {
    const TempFolder a, b;
    std::filesystem::create_directory(a.file("m"));
    std::filesystem::copy(model, a.file("m"));
    const std::string program = std::getenv("CAKE_PROGRAM");
    std::vector<std::string> words{std::getenv("CAKE_MPIEXEC"), "--oversubscribe"};
    for (const auto& [place, node] : {std::pair{a.path(), "node1"}, {b.path(), "node2"}}) {
        const std::vector<std::string> rank{
            "-n",    "1",      "-wdir",   place, "-x",       std::string("SLURMD_NODENAME=") + node,
            program, "doctor", "--model", "m",   "--report", report,
            ":"};
        words.insert(words.end(), rank.begin(), rank.end());
    }
    words.pop_back();
    const auto result = run_command(words);
    EXPECT_EQ(result.exit_code, 1) << result.err;
    const json seen = read_report();
    EXPECT_EQ(seen["folders"][0]["missing_on"], json({"node2"}));
    ASSERT_EQ(seen["clocks"].size(), 2u);
    EXPECT_LT(std::abs(seen["clocks"][1]["ahead_s"].get<double>()), 1);
    EXPECT_THAT(result.out,
                AllOf(HasSubstr("2 ranks on 2 hosts"), HasSubstr("folder .: not shared by all"),
                      HasSubstr("node2 does not see what rank 0 writes in ."),
                      HasSubstr("error: m is not on all hosts: it is there on rank 0 (node1)")));
}

// cake_emulated has one GPU.
TEST_F(Doctor, SumsOnGpusAndSaysWhereTheyDoNotSuffice) {
    const auto on_two_ranks = [&](std::vector<std::string> more) {
        std::vector<std::string> words{
            std::getenv("CAKE_MPIEXEC"),  "--oversubscribe", "-n",       "2",
            std::getenv("CAKE_EMULATED"), "doctor",          "--report", report};
        words.insert(words.end(), more.begin(), more.end());
        return run_command(words, {.environment = {{"CUDA_VISIBLE_DEVICES", std::nullopt}}});
    };
    const auto shared = on_two_ranks({"--share-gpu"});
    ASSERT_EQ(shared.exit_code, 0) << shared.out << shared.err;
    const json seen = read_report();
    EXPECT_EQ(seen["ranks"][1]["backend"], "cuda");
    ASSERT_EQ(seen["all_reduce"].size(), 8u);
    EXPECT_THAT(seen["all_reduce"][4]["over"].get<std::string>(), HasSubstr("GPU"));
    EXPECT_GT(seen["all_reduce"][4]["seconds"].get<double>(), 0);

    const auto two = on_two_ranks({});
    EXPECT_EQ(two.exit_code, 1);
    EXPECT_THAT(two.out, HasSubstr("error: 2 ranks of a host see 1 GPU in all"));
    EXPECT_EQ(read_report()["ranks"][1]["backend"], "cpu");
}

}  // namespace
}  // namespace cake::test
