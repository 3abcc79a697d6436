#include <chrono>
#include <filesystem>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "support/gguf_writer.h"
#include "support/golden.h"
#include "support/run_program.h"
#include "support/safetensors_writer.h"
#include "support/temp_folder.h"
#include "text/small_tokenizers.h"

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

// Numbers of a llama of one layer, as a converter writes them.
void put_llama(GgufWriter& writer) {
    writer.string("general.architecture", "llama");
    for (const auto& [key, value] :
         std::vector<std::pair<std::string, std::uint32_t>>{{"block_count", 1},
                                                            {"embedding_length", 16},
                                                            {"feed_forward_length", 8},
                                                            {"context_length", 64},
                                                            {"attention.head_count", 2}})
        writer.integer("llama." + key, value);
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
    const auto result = run_program({"inspect", "--json", test::golden_model("tiny-llama-bf16")});
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
    put_llama(writer);
    writer.string("general.name", "A model");
    writer.tensor("token_embd.weight", {4, 16}, std::vector<float>(64));
    writer.write(folder.file("m.gguf"));

    const auto result = run_program({"inspect", folder.file("m.gguf")});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.out, AllOf(HasSubstr("A model (GGUF)"), HasSubstr("1 f32 (0.0 MiB)"),
                                  HasSubstr("tokenizer      cannot be read: ")));
}

nlohmann::json facts_of(const std::string& path) {
    const auto result = run_program({"inspect", "--json", path});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return nlohmann::json::parse(result.out);
}

TEST(Inspect, CountsAllPartsOfASplitGguf) {
    const TempFolder folder;
    for (std::uint16_t part : {0, 1, 2}) {
        GgufWriter writer;
        writer.raw("split.no", 2, ByteWriter().put(part).bytes());
        writer.raw("split.count", 2, ByteWriter().put(std::uint16_t(3)).bytes());
        if (part == 0)
            put_llama(writer);
        if (part == 1) {
            writer.tensor("token_embd.weight", {4, 16}, std::vector<float>(64));
            writer.tensor("rope_freqs.weight", {4}, std::vector<float>{1, 1, 2, 8});
        }
        if (part == 2)
            writer.tensor("output.weight", {4, 16}, std::vector<float>(64));
        writer.write(folder.file(fmt::format("m-{:05}-of-00003.gguf", part + 1)));
    }
    const auto facts = facts_of(folder.file("m-00001-of-00003.gguf"));
    EXPECT_EQ(facts["vocab"], 4);  // of the embedding in the second part
    EXPECT_EQ(facts["tied_head"], false);
    EXPECT_EQ(facts["tensors"]["count"], 3);
    EXPECT_EQ(facts["rope"]["scaling"], "llama3");
    EXPECT_EQ(facts["rope"]["factor"], 8);
    const auto second = run_program({"inspect", folder.file("m-00002-of-00003.gguf")});
    EXPECT_EQ(second.exit_code, 2);
    EXPECT_THAT(second.err, HasSubstr("give the first part"));
    std::filesystem::remove(folder.file("m-00003-of-00003.gguf"));
    const auto cut = run_program({"inspect", folder.file("m-00001-of-00003.gguf")});
    EXPECT_EQ(cut.exit_code, 2);
    EXPECT_THAT(cut.err, HasSubstr("m-00003-of-00003.gguf is missing"));
}

TEST(Inspect, SaysHowRopeIsScaled) {
    const auto rope = [](const char* model) { return facts_of(golden + model + "/model")["rope"]; };
    EXPECT_EQ(rope("tiny-llama31")["scaling"], "llama3");
    EXPECT_EQ(rope("tiny-llama31")["original_context"], 64);
    EXPECT_EQ(rope("tiny-llama-linear")["scaling"], "linear");
    EXPECT_EQ(rope("tiny-llama-linear")["factor"], 4);
    EXPECT_EQ(rope("tiny-qwen2-yarn")["scaling"], "yarn");
    EXPECT_NEAR(rope("tiny-qwen2-yarn")["attention_factor"].get<double>(), 1.138629436111989,
                1e-12);
    EXPECT_THAT(run_program({"inspect", golden + "tiny-qwen2-yarn/model"}).out,
                HasSubstr("scaling yarn, factor 4, original_context 64, attention_factor 1.13862"));
}

TEST(Inspect, CountsEachTypeOfAFolderOfShardsAndEveryEndOfSequence) {
    const TempFolder folder;
    std::filesystem::copy(golden + "tiny-llama/model/config.json", folder.file("config.json"));
    nlohmann::json map;
    const auto shard = [&](const char* file, const char* tensor, DType dtype) {
        SafetensorsWriter writer;
        writer.tensor(tensor, Shape{4}, std::vector<float>(4), dtype);
        writer.write(folder.file(file));
        map[tensor] = file;
    };
    shard("model-00001-of-00003.safetensors", "a", DType::F32);
    shard("model-00002-of-00003.safetensors", "b", DType::BF16);
    shard("model-00003-of-00003.safetensors", "c", DType::F16);
    folder.write("model.safetensors.index.json", nlohmann::json{{"weight_map", map}}.dump());
    folder.write("tokenizer.json", test::small_byte_level().dump());
    folder.write("generation_config.json", R"({"eos_token_id": [7, 2]})");

    const auto result = run_program({"inspect", folder.path()});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.out, AllOf(HasSubstr("3 tensors"), HasSubstr("1 bf16"), HasSubstr("1 f16"),
                                  HasSubstr("1 f32"), HasSubstr(R"(eos 7 "<end>", 2 "ab")")));
}

TEST(Inspect, TakesLessThanASecond) {
    for (const char* model : {"tiny-llama", "tiny-llama31", "tiny-qwen2-yarn"}) {
        const auto begin = std::chrono::steady_clock::now();
        EXPECT_EQ(run_program({"inspect", golden + model + "/model"}).exit_code, 0);
        EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(1)) << model;
    }
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
