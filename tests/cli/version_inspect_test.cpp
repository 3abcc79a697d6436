#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "support/gguf_writer.h"
#include "support/run_program.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

using test::run_program;
using test::run_program_on_ranks;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

const std::string golden = CAKE_SOURCE_DIR "/tests/golden/";

TEST(Program, ListsItsCommands) {
    for (const char* word : {"help", "--help", "-h"}) {
        const auto result = run_program({word});
        EXPECT_EQ(result.exit_code, 0);
        EXPECT_THAT(result.out, AllOf(HasSubstr("usage: cake COMMAND"), HasSubstr("\n  inspect "),
                                      HasSubstr("\n  version ")));
        EXPECT_THAT(result.err, IsEmpty());
    }
}

TEST(Program, WantsACommand) {
    const auto result = run_program({});
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.out, IsEmpty());
    EXPECT_THAT(result.err, HasSubstr("a command is missing"));
}

TEST(Program, NamesTheNearestCommand) {
    const auto result = run_program({"inspekt"});
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.err,
              "cake: error: there is no command 'inspekt'; the nearest one is 'inspect', `cake "
              "help` lists all\n");
}

TEST(Program, ExplainsACommandInTwoWays) {
    const auto direct = run_program({"inspect", "--help"});
    EXPECT_EQ(direct.exit_code, 0);
    EXPECT_THAT(direct.out, AllOf(HasSubstr("cake inspect"), HasSubstr("--json")));
    EXPECT_EQ(run_program({"help", "inspect"}).out, direct.out);
}

TEST(Program, RefusesOptionsThatItDoesNotKnow) {
    const auto result = run_program({"version", "--jsn"});
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, AllOf(StartsWith("cake: error: "), HasSubstr("--jsn"),
                                  HasSubstr("`cake version --help`")));
}

// The runtime prints its settings where OMP_DISPLAY_ENV asks for them, before main() begins.
std::string wait_policy_lines(std::optional<std::string> policy) {
    const auto result = run_program(
        {"help"}, {.environment = {{"OMP_WAIT_POLICY", policy}, {"OMP_DISPLAY_ENV", "true"}}});
    EXPECT_EQ(result.exit_code, 0);
    return result.err;
}

TEST(Program, LetsOpenMpThreadsWaitWithoutSpinning) {
    EXPECT_THAT(wait_policy_lines(std::nullopt), HasSubstr("OMP_WAIT_POLICY = 'PASSIVE'"));
}

TEST(Program, LeavesTheWaitPolicyThatTheUserChose) {
    EXPECT_THAT(wait_policy_lines("active"),
                AllOf(HasSubstr("OMP_WAIT_POLICY = 'ACTIVE'"), Not(HasSubstr("PASSIVE"))));
}

TEST(Program, SaysOnceWhatFailsOnAllRanks) {
    const auto result = run_program_on_ranks(3, {"inspect", "/there/is/none"});
    EXPECT_EQ(result.exit_code, 2);
    const std::string message =
        "cake: error: /there/is/none: there is no such model file or folder\n";
    const std::size_t first = result.err.find(message);
    ASSERT_NE(first, std::string::npos) << result.err;
    EXPECT_EQ(result.err.find("cake: error:", first + 1), std::string::npos) << result.err;
}

TEST(Version, NamesBuildLibrariesAndDevices) {
    const auto result = run_program({"version"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.out, StartsWith("cake           " CAKE_VERSION "\n"));
    for (const char* part :
         {"\nbuild ", "\nsanitizers ", "\nMPI            Open MPI", "\noneDNN ", "\nyaml-cpp ",
          "\nspdlog ", "\nfmt ", "\nPCRE2 ", "\ncpu ", "threads\n", "\ncuda "})
        EXPECT_THAT(result.out, HasSubstr(part));
    EXPECT_EQ(run_program({"--version"}).out, result.out);
}

TEST(Version, IsPrintedByOneRank) {
    const auto result = run_program_on_ranks(2, {"version"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.out.find("oneDNN"), result.out.rfind("oneDNN"));
}

TEST(Inspect, DescribesAFolder) {
    const auto result = run_program({"inspect", golden + "tiny-qwen2/model"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(
        result.out,
        AllOf(HasSubstr("qwen2, 4 layers, d_model 96"), HasSubstr("biases on q, k, v"),
              HasSubstr("6 query heads, 2 KV heads, head_dim 16"), HasSubstr("314848 (0.3 M)"),
              HasSubstr("50 f32 (1.2 MiB)"), HasSubstr("tokenizer      none here")));
}

TEST(Inspect, GivesTheSameAsJson) {
    const auto result = run_program({"inspect", "--json", golden + "tiny-llama-bf16/model"});
    EXPECT_EQ(result.exit_code, 0);
    const auto facts = nlohmann::json::parse(result.out);
    EXPECT_EQ(facts["architecture"], "llama");
    EXPECT_EQ(facts["layers"], 5);
    EXPECT_EQ(facts["kv_heads"], 4);
    EXPECT_EQ(facts["dtype"], "bf16");
    EXPECT_EQ(facts["tensors"]["count"], 48);
    EXPECT_EQ(facts["tensors"]["dtypes"][0]["dtype"], "bf16");
    // Every parameter is in a tensor, two bytes each.
    EXPECT_EQ(facts["tensors"]["bytes"].get<std::int64_t>(),
              2 * facts["parameters"].get<std::int64_t>());
    EXPECT_EQ(facts["tokenizer"], nullptr);
    EXPECT_EQ(facts["defaults"], nullptr);
}

TEST(Inspect, CountsTheParametersThatTheFilesHold) {
    for (const char* model : {"tiny-llama", "tiny-mistral", "tiny-qwen2"}) {
        const auto facts = nlohmann::json::parse(
            run_program({"inspect", "--json", golden + model + "/model"}).out);
        EXPECT_EQ(facts["tensors"]["bytes"].get<std::int64_t>(),
                  4 * facts["parameters"].get<std::int64_t>())
            << model;
    }
}

TEST(Inspect, NeedsNoMoreThanConfigJson) {
    const auto result = run_program({"inspect", golden + "tiny-mistral/model/config.json"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.out, AllOf(HasSubstr("mistral, 6 layers"), HasSubstr("no weights here")));
}

TEST(Inspect, DescribesGgufFilesAndSaysWhenTheTokenizerCannotBeRead) {
    const TempFolder folder;
    GgufWriter writer;
    writer.string("general.architecture", "llama");
    writer.string("general.name", "A model");
    for (const auto& [key, value] :
         std::vector<std::pair<std::string, std::uint32_t>>{{"block_count", 1},
                                                            {"embedding_length", 16},
                                                            {"feed_forward_length", 8},
                                                            {"context_length", 64},
                                                            {"attention.head_count", 2}})
        writer.integer("llama." + key, value);
    writer.tensor("token_embd.weight", {4, 16}, std::vector<float>(64));
    writer.write(folder.file("m.gguf"));

    const auto result = run_program({"inspect", folder.file("m.gguf")});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.out, AllOf(HasSubstr("A model (GGUF)"), HasSubstr("1 f32 (0.0 MiB)"),
                                  HasSubstr("tokenizer      cannot be read: ")));
}

TEST(Inspect, RefusesWhatIsNoModelWithTheReason) {
    const TempFolder folder;
    const auto empty = run_program({"inspect", folder.path()});
    EXPECT_EQ(empty.exit_code, 2);
    EXPECT_THAT(empty.err, HasSubstr("there is no config.json in this folder"));

    const auto garbage = run_program({"inspect", folder.write("config.json", "{\"a\": ")});
    EXPECT_EQ(garbage.exit_code, 2);
    EXPECT_THAT(garbage.err, HasSubstr("config.json:1:"));

    const auto damaged = run_program({"inspect", folder.write("m.gguf", "GGUF")});
    EXPECT_EQ(damaged.exit_code, 2);
    EXPECT_THAT(damaged.err, AllOf(HasSubstr("m.gguf"), Not(HasSubstr("terminate"))));
}

}  // namespace
}  // namespace cake
