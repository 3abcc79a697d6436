// How the program finds its GPUs: none, or the emulated one of cake_emulated.
#include <algorithm>
#include <cstdlib>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "support/golden.h"
#include "support/run_program.h"
#include "support/temp_folder.h"

namespace cake::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class GpusOfAProgram : public testing::Test {
protected:
    TempFolder folder;
    std::string prompt = folder.write("prompt.json", "[1, 2, 3]");

    std::vector<std::string> generate(std::vector<std::string> more) const {
        std::vector<std::string> args{"generate",
                                      "--model",
                                      golden_path("tiny-llama") + "/model",
                                      "--prompt-tokens",
                                      prompt,
                                      "--max-new-tokens",
                                      "4"};
        args.insert(args.end(), more.begin(), more.end());
        return args;
    }
};

const ProgramOptions without_gpus{.environment = {{"CUDA_VISIBLE_DEVICES", ""}}};

TEST_F(GpusOfAProgram, AreMissedInOneLineThatSaysWhyAndWhatToDo) {
    const auto result = run_program(generate({"--backend", "cuda"}), without_gpus);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, AllOf(StartsWith("cake: error: --backend cuda: "), HasSubstr("CUDA"),
                                  HasSubstr("`cake version`"), HasSubstr("--backend cpu")));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

TEST_F(GpusOfAProgram, AreMissedInOneLineOnSeveralRanks) {
    const auto result = run_program_on_ranks(2, generate({"--backend", "cuda"}), without_gpus);
    EXPECT_EQ(result.exit_code, 2);
    const std::string message = "cake: error: --backend cuda: ";
    const std::size_t first = result.err.find(message);
    ASSERT_NE(first, std::string::npos) << result.err;
    EXPECT_EQ(result.err.find("cake: error:", first + 1), std::string::npos) << result.err;
}

TEST_F(GpusOfAProgram, AreNotMissedUnlessAskedFor) {
    const auto result = run_program(generate({}), without_gpus);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.err, Not(HasSubstr("GPU")));
}

TEST_F(GpusOfAProgram, AreNamedByVersionOrWhyThereAreNone) {
    const auto result = run_program({"version"}, without_gpus);
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.out,
                AllOf(HasSubstr("\nNCCL "), HasSubstr("\ngpus "), Not(HasSubstr("\ngpu 0"))));
}

class EmulatedGpuOfAProgram : public GpusOfAProgram {
protected:
    ProgramResult run_on_ranks(int ranks, const std::vector<std::string>& arguments) {
        std::vector<std::string> command{std::getenv("CAKE_MPIEXEC"), "--oversubscribe", "-n",
                                         std::to_string(ranks), std::getenv("CAKE_EMULATED")};
        command.insert(command.end(), arguments.begin(), arguments.end());
        return run_command(command);
    }
};

TEST_F(EmulatedGpuOfAProgram, IsNamedByVersion) {
    const auto result = run_command({std::getenv("CAKE_EMULATED"), "version"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.out, AllOf(HasSubstr("\ngpu 0 "), HasSubstr("emulated")));
}

TEST_F(EmulatedGpuOfAProgram, IsNotEnoughForTwoRanks) {
    for (const char* backend : {"auto", "cuda"}) {
        const auto result = run_on_ranks(2, generate({"--backend", backend}));
        EXPECT_EQ(result.exit_code, 2);
        EXPECT_THAT(result.err, HasSubstr("2 ranks of a host see 1 GPU in all, and none is left "
                                          "for local rank 1"));
    }
    EXPECT_EQ(run_on_ranks(2, generate({"--backend", "cpu"})).exit_code, 0);
}

// Their sums pass through pinned memory and MPI.
TEST_F(EmulatedGpuOfAProgram, IsSharedWhereRanksMay) {
    const std::string file = folder.file("report.json");
    const auto result = run_on_ranks(2, generate({"--share-gpu", "--check", "--report", file}));
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const nlohmann::json report = nlohmann::json::parse(std::ifstream(file));
    EXPECT_EQ(report["machine"]["backend"], "cuda");
    const auto tokens = report["requests"][0]["tokens"].size();
    EXPECT_GT(tokens, 0u);
    EXPECT_EQ(report["traffic"]["all_reduce_calls"],
              tokens * (2 * report["model"]["layers"].get<std::size_t>() + 1));
}

}  // namespace
}  // namespace cake::test
