// Ranks that are not alike are refused at the start: by one line that names the rank, its host and the difference.
#include "cli/alike.h"

#include <algorithm>
#include <filesystem>

#include <gmock/gmock.h>

#include "io/model_files.h"
#include "support/golden.h"
#include "support/run_program.h"
#include "support/temp_folder.h"
#include "support/thread_comm.h"
#include "support/tiny_files.h"

namespace cake::test {
namespace {

namespace fs = std::filesystem;

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

TEST(Difference, IsNothingWhereAllFactsAreEqual) {
    run_ranks(3, [](Communicator& comm) {
        EXPECT_EQ(difference(comm, "host", {{"a", 1}, {"b", {{"c", nullptr}}}}), "");
    });
}

TEST(Difference, NamesTheFirstRankThatDiffersAndInWhat) {
    run_ranks(4, [](Communicator& comm) {
        const json facts = {{"a", 1}, {"b", {{"c", comm.rank() >= 2 ? "x" : "y"}}}};
        EXPECT_EQ(difference(comm, fmt::format("node{}", comm.rank()), facts),
                  "b.c is y on rank 0 (node0) and x on rank 2 (node2)");
    });
}

TEST(Difference, NamesWhatOneRankLacks) {
    run_ranks(2, [](Communicator& comm) {
        const json facts = comm.rank() == 0 ? json{{"a", 1}, {"b", 2}} : json{{"a", 1}};
        EXPECT_EQ(difference(comm, "n", facts), "b is 2 on rank 0 (n) and absent on rank 1 (n)");
    });
}

TEST(ModelFiles, DifferInSizeHeaderOrAnythingBesideTheWeights) {
    const TempFolder a, b;
    const auto files = [](const TempFolder& folder) {
        return describe_model_files(write_f32_folder(folder, golden_tiny("tiny-llama")));
    };
    const auto first = files(a);
    EXPECT_EQ(first, files(b));
    EXPECT_TRUE(first.contains("config.json"));
    EXPECT_TRUE(first.contains("model.safetensors"));

    b.write("tokenizer_config.json", "{}");
    EXPECT_NE(first, describe_model_files(b.path()));

    const TempFolder c;
    TinyModel renamed = golden_tiny("tiny-llama");
    const auto norm = std::find_if(renamed.weights.begin(), renamed.weights.end(),
                                   [](const Weight& w) { return w.name == "model.norm.weight"; });
    ASSERT_NE(norm, renamed.weights.end());
    norm->name = "model.form.weight";
    const auto other = describe_model_files(write_f32_folder(c, renamed));
    EXPECT_EQ(first.at("config.json"), other.at("config.json"));
    EXPECT_NE(first.at("model.safetensors"), other.at("model.safetensors"));
}

TEST(ModelFiles, OfGgufAreItsParts) {
    const TempFolder one, three;
    const TinyModel model = random_tiny(false, DType::Q8_0);
    EXPECT_EQ(describe_model_files(write_gguf(one, model)).size(), 1u);
    EXPECT_EQ(describe_model_files(write_gguf(three, model, 3)).size(), 3u);
}

// Two ranks that differ in the words before and after the program's name.
class RanksThatDiffer : public testing::Test {
protected:
    TempFolder folder;
    std::string model = golden_path("tiny-llama") + "/model";
    std::string prompt = folder.write("prompt.json", "[1, 2, 3]");

    using Words = std::vector<std::string>;
    ProgramResult run(const Words& before0, const Words& after0, const Words& before1,
                      const Words& after1, const char* program1 = "CAKE_PROGRAM") const {
        const std::string mpiexec = std::getenv("CAKE_MPIEXEC");
        Words words{mpiexec, "--oversubscribe"};
        const auto add_rank = [&](const Words& before, const char* program, const Words& after) {
            words.insert(words.end(), {"-n", "1"});
            words.insert(words.end(), before.begin(), before.end());
            words.push_back(std::getenv(program));
            words.insert(words.end(), after.begin(), after.end());
        };
        add_rank(before0, "CAKE_PROGRAM", after0);
        words.push_back(":");
        add_rank(before1, program1, after1);
        return run_command(words);
    }
    Words generate(const std::string& path, const Words& more = {}) const {
        Words words{"generate", "--model",          path, "--prompt-tokens",
                    prompt,     "--max-new-tokens", "2"};
        words.insert(words.end(), more.begin(), more.end());
        return words;
    }
    static void expect_one_line(const ProgramResult& result, const std::string& text) {
        EXPECT_EQ(result.exit_code, 2) << result.err;
        EXPECT_THAT(result.err, AllOf(StartsWith("cake: error: "), HasSubstr(text)));
        EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    }
};

TEST_F(RanksThatDiffer, InConfigurationAreRefused) {
    expect_one_line(run({}, generate(model), {}, generate(model, {"--cache-size", "96"})),
                    "policy.cache_size is null on rank 0 (");
}

TEST_F(RanksThatDiffer, InTheirBuildAreRefused) {
    expect_one_line(run({}, {"version"}, {}, {"version"}, "CAKE_EMULATED"),
                    "the ranks run different programs: build is ");
}

TEST_F(RanksThatDiffer, InTheirCommandAreRefused) {
    expect_one_line(run({}, {"version"}, {}, {"doctor"}),
                    "the ranks run different programs: command is version on rank 0 (");
}

// A folder that hosts do not share: the same path, and other files behind it.
TEST_F(RanksThatDiffer, InTheirModelAreRefused) {
    const TempFolder a, b;
    fs::copy(model, a.file("model"), fs::copy_options::recursive);
    fs::copy(model, b.file("model"), fs::copy_options::recursive);
    const auto run_in_both = [&] {
        return run({"-wdir", a.path(), "-x", "SLURMD_NODENAME=node1"}, generate("model"),
                   {"-wdir", b.path(), "-x", "SLURMD_NODENAME=node2"}, generate("model"));
    };
    EXPECT_EQ(run_in_both().exit_code, 0);

    b.write("model/config.json", json::parse(std::ifstream(model + "/config.json")).dump());
    const auto differs = run_in_both();
    expect_one_line(differs, "model is not the same model on all ranks: config.json is ");
    EXPECT_THAT(differs.err, HasSubstr("on rank 1 (node2)"));

    fs::remove_all(b.file("model"));
    expect_one_line(run_in_both(),
                    "model is not on all hosts: it is there on rank 0 (node1) and missing on rank "
                    "1 (node2); copy it");
}

TEST_F(RanksThatDiffer, InNothingButTheirNumberAreToldHowManyTheModelTakes) {
    expect_one_line(
        run_program_on_ranks(9, {"generate", "--model", model, "--prompt-tokens", prompt}),
        "9 ranks are too many for this model: start at most 8");
}

}  // namespace
}  // namespace cake::test
