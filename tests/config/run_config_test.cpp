#include "config/run_config.h"

#include <filesystem>
#include <fstream>
#include <set>

#include <gmock/gmock.h>

#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

RunConfig from(const std::string& text) {
    RunConfig config;
    apply_config_text(config, text, "my.yaml");
    return config;
}

std::string complaint(const std::string& text) {
    return usage_message([&] { from(text); });
}

TEST(RunConfig, ReadsTheExampleOfTheInterface) {
    const RunConfig config = from(R"(
model:      { path: models/llama-3.1-8b-instruct, dtype: bf16, layers: 4 }   # comment
backend:    cpu
parallel:   { tensor: 2, data: auto }
policy:     { name: cake, cache_size: 1024, window: 32, tau1: 1.6, tau2: 0.4, gamma: 200, pool: 5,
              cascade: false, rounding: official, decode: none, stats: model, seed: 7, share: uniform }
generation: { max_new_tokens: 12, temperature: 0.5, top_p: 0.9, top_k: 40, min_p: 0.05, repetition_penalty: 1.1,
              logprobs: 5, seed: 9, stop: ["\n\n", end], ignore_eos: true }
engine:     { prefill_chunk: 512, max_batch: 3, page_tokens: 16, kv_bytes: 2GiB, cache_dtype: f32,
              residual_dtype: bf16, threads: 1 }
chat:       none
check:      true
)");
    EXPECT_EQ(config.model.path, "models/llama-3.1-8b-instruct");
    EXPECT_EQ(config.model.dtype, "bf16");
    EXPECT_EQ(config.model.layers, 4);
    EXPECT_EQ(config.backend, "cpu");
    EXPECT_EQ(config.parallel.tensor, "2");
    EXPECT_EQ(config.parallel.data, "auto");
    EXPECT_EQ(config.policy.name, "cake");
    EXPECT_EQ(config.policy.cache_size, 1024);
    EXPECT_EQ(config.policy.window, 32);
    EXPECT_EQ(config.policy.tau1, 1.6);
    EXPECT_EQ(config.policy.tau2, 0.4);
    EXPECT_EQ(config.policy.gamma, 200);
    EXPECT_EQ(config.policy.pool, 5);
    EXPECT_EQ(config.policy.cascade, false);
    EXPECT_EQ(config.policy.rounding, "official");
    EXPECT_EQ(config.policy.decode, "none");
    EXPECT_EQ(config.policy.stats, "model");
    EXPECT_EQ(config.policy.share, "uniform");
    EXPECT_EQ(config.policy.seed, 7);
    EXPECT_EQ(config.policy.observe, std::nullopt);
    EXPECT_EQ(config.generation.max_new_tokens, 12);
    EXPECT_EQ(config.generation.temperature, 0.5);
    EXPECT_EQ(config.generation.top_p, 0.9);
    EXPECT_EQ(config.generation.top_k, 40);
    EXPECT_EQ(config.generation.min_p, 0.05);
    EXPECT_EQ(config.generation.repetition_penalty, 1.1);
    EXPECT_EQ(config.generation.logprobs, 5);
    EXPECT_EQ(config.generation.seed, 9);
    EXPECT_THAT(config.generation.stop, ElementsAre("\n\n", "end"));
    EXPECT_TRUE(config.generation.ignore_eos);
    EXPECT_EQ(config.engine.prefill_chunk, "512");
    EXPECT_EQ(config.engine.max_batch, 3);
    EXPECT_EQ(config.engine.page_tokens, "16");
    EXPECT_EQ(config.engine.kv_bytes, "2GiB");
    EXPECT_EQ(config.engine.cache_dtype, "f32");
    EXPECT_EQ(config.engine.residual_dtype, "bf16");
    EXPECT_EQ(config.engine.threads, "1");
    EXPECT_EQ(config.chat, "none");
    EXPECT_TRUE(config.check);
}

TEST(RunConfig, LaterSettingsWinAndLeaveTheRest) {
    RunConfig config = from("policy: {window: 8, pool: 3}");
    apply_config_text(config, "policy: {window: 16}", "b.yaml");
    EXPECT_EQ(config.policy.window, 16);
    EXPECT_EQ(config.policy.pool, 3);
    apply_setting(config, "policy.window=24");
    EXPECT_EQ(config.policy.window, 24);
    apply_value(config, "policy.window", "32", "--window 32");
    EXPECT_EQ(config.policy.window, 32);
}

TEST(RunConfig, IsLeftAloneByAFileThatFails) {
    RunConfig config;
    usage_message([&] { apply_config_text(config, "policy: {window: 8, pool: x}", "a.yaml"); });
    EXPECT_EQ(config.policy.window, std::nullopt);
}

TEST(RunConfig, TakesEmptyFilesAndEmptySections) {
    for (const char* text : {"", "\n# nothing\n", "policy:\nmodel: {}", "---\n"})
        EXPECT_EQ(to_json(from(text)), to_json(RunConfig())) << text;
}

TEST(RunConfig, NamesFileLineAndNearestKeyOfAnUnknownOne) {
    EXPECT_EQ(complaint("backend: cpu\npolicy:\n  name: cake\n  windw: 3\n"),
              "my.yaml:4: unknown key 'policy.windw'; the nearest one is policy.window");
    EXPECT_EQ(complaint("window: 3\n"),
              "my.yaml:1: unknown key 'window'; the nearest one is policy.window");
    EXPECT_THAT(complaint("policies: {}\n"),
                StartsWith("my.yaml:1: unknown key 'policies'; the nearest one is "));
    RunConfig config;
    EXPECT_EQ(usage_message([&] { apply_setting(config, "polcy.tau1=2"); }),
              "--set polcy.tau1=2: unknown key 'polcy.tau1'; the nearest one is policy.tau1");
}

TEST(RunConfig, NamesFileLineFoundAndAllowedOfAWrongValue) {
    EXPECT_EQ(complaint("\npolicy:\n  window: wide\n"),
              "my.yaml:3: policy.window is 'wide'; allowed is a whole number from 1 to 134217728");
    EXPECT_EQ(complaint("backend: gpu"),
              "my.yaml:1: backend is 'gpu'; allowed is one of auto, cpu, cuda");
    EXPECT_EQ(complaint("generation:\n  top_p: 1.5"),
              "my.yaml:2: generation.top_p is '1.5'; allowed is a number from 1e-06 to 1");
    EXPECT_EQ(
        complaint("generation: {repetition_penalty: 0}"),
        "my.yaml:1: generation.repetition_penalty is '0'; allowed is a number from 0.01 to 100");
    EXPECT_EQ(complaint("generation: {top-k: 4}"),
              "my.yaml:1: unknown key 'generation.top-k'; the nearest one is generation.top_k");
    EXPECT_EQ(complaint("generation: {ignore_eos: 1}"),
              "my.yaml:1: generation.ignore_eos is '1'; allowed is true or false");
    EXPECT_EQ(complaint("engine: {threads: many}"),
              "my.yaml:1: engine.threads is 'many'; allowed is auto, or a number of threads");
    EXPECT_EQ(complaint("policy: cake"), "my.yaml:1: policy is 'cake'; allowed is a map of keys");
    EXPECT_EQ(complaint("backend: {a: 1}"),
              "my.yaml:1: backend is a map; allowed is one of auto, cpu, cuda");
    EXPECT_EQ(complaint("backend:"),
              "my.yaml:1: backend is nothing; allowed is one of auto, cpu, cuda");
    EXPECT_EQ(complaint("- a\n- b"),
              "my.yaml:1: the configuration is a list; allowed is a map of keys");
}

TEST(RunConfig, RefusesNumbersThatAreNone) {
    for (const char* value :
         {"nan", "inf", "-inf", "1e999", "1,5", "0x10", "1.6 # x", "''", "[1]", "-1"})
        EXPECT_THAT(complaint("policy: {gamma: " + std::string(value) + "}"),
                    HasSubstr("my.yaml:1: "))
            << value;
    for (const char* value : {"1.5", "0", "99999999999999999999", "1e3", "-5", "3 4"})
        EXPECT_THAT(complaint("policy: {window: " + std::string(value) + "}"),
                    HasSubstr("policy.window is"))
            << value;
}

TEST(RunConfig, RefusesAKeyThatIsSetTwice) {
    EXPECT_EQ(complaint("chat: none\nbackend: cpu\nchat: auto\n"), "my.yaml:3: chat is set twice");
}

TEST(RunConfig, RefusesTextThatIsNoYamlAndNamesTheLine) {
    EXPECT_THAT(complaint("backend: cpu\npolicy: {window: 3\n"), HasSubstr("this is not YAML"));
    EXPECT_THAT(complaint("backend: cpu\n\tchat: none\n"), StartsWith("my.yaml:2: "));
    EXPECT_THAT(complaint("chat: *nowhere"), HasSubstr("my.yaml:1: "));
    EXPECT_THAT(complaint("chat: none\n---\nchat: auto\n"),
                HasSubstr("my.yaml:2: a second YAML document"));
}

TEST(RunConfig, SurvivesHostileText) {
    EXPECT_THAT(complaint(std::string(100'000, '[')), HasSubstr("my.yaml"));
    EXPECT_THAT(complaint(std::string(100'000, '{')), HasSubstr("my.yaml"));
    EXPECT_THAT(complaint(std::string(2'000'000, 'a')), HasSubstr("more than"));
    EXPECT_THAT(complaint("chat: \"\\xff\xff\""), HasSubstr("chat is"));
    EXPECT_THAT(complaint(std::string("\0\0\0", 3)),
                HasSubstr("my.yaml:1: this is not YAML: a byte of value 0"));
    EXPECT_THAT(complaint("chat: none\n\x04rubbish"), HasSubstr("my.yaml:2: this is not YAML"));
    EXPECT_THAT(complaint(",,,\"x"), HasSubstr("my.yaml:1: a second YAML document"));
    std::string bomb = "a0: &a0 [x, x]\n";  // doubles thirty times, if somebody walks it
    for (int i = 1; i < 30; ++i)
        bomb += fmt::format("a{0}: &a{0} [*a{1}, *a{1}]\n", i, i - 1);
    EXPECT_THAT(complaint(bomb), HasSubstr("unknown key 'a0'"));
    EXPECT_THAT(complaint("generation: {stop: &s [*s]}"), HasSubstr("generation.stop"));
    EXPECT_THAT(complaint("policy: &p {name: *p}"), HasSubstr("policy.name"));
}

TEST(RunConfig, SettingsAreYamlAndFlagsAreTakenAsTheyStand) {
    RunConfig config;
    apply_setting(config, "generation.stop=[a, 'b c']");
    EXPECT_THAT(config.generation.stop, ElementsAre("a", "b c"));
    apply_setting(config, "policy={window: 4, tau1: 2}");
    EXPECT_EQ(config.policy.window, 4);
    apply_setting(config, "policy.tau1=");  // unset again
    EXPECT_EQ(config.policy.tau1, std::nullopt);
    apply_setting(config, "model.path=a=b");
    EXPECT_EQ(config.model.path, "a=b");
    apply_value(config, "model.path", "[odd]: #name", "--model");
    EXPECT_EQ(config.model.path, "[odd]: #name");
    EXPECT_THAT(usage_message([&] { apply_setting(config, "policy.window"); }),
                HasSubstr("write key.path=value"));
    EXPECT_EQ(usage_message([&] { apply_value(config, "policy.window", "x", "--window x"); }),
              "--window x: policy.window is 'x'; allowed is a whole number from 1 to 134217728");
}

TEST(RunConfig, DumpsEveryKeyAndReadsItsDumpAgain) {
    const RunConfig config = from(
        "policy: {cache_size: 64, tau1: 0.1}\ngeneration: {stop: [\"\\n\", a], seed: "
        "9223372036854775807}\n"
        "engine: {page_tokens: 16, kv_bytes: 1 GiB}");
    const nlohmann::json dump = to_json(config);
    EXPECT_EQ(dump["policy"]["cache_size"], 64);
    EXPECT_EQ(dump["policy"]["window"], nullptr);
    EXPECT_EQ(dump["engine"]["page_tokens"], 16);
    EXPECT_EQ(dump["engine"]["threads"], "auto");
    for (const ConfigKey& key : config_keys()) {
        std::string pointer = "/" + key.path;
        std::replace(pointer.begin(), pointer.end(), '.', '/');
        EXPECT_TRUE(dump.contains(nlohmann::json::json_pointer(pointer))) << key.path;
    }
    EXPECT_EQ(to_json(from(dump.dump(2))), dump);  // JSON is YAML
}

TEST(RunConfig, ExplainsEveryKeyOnce) {
    std::set<std::string> paths;
    for (const ConfigKey& key : config_keys()) {
        EXPECT_TRUE(paths.insert(key.path).second) << key.path;
        EXPECT_THAT(key.help, AllOf(HasSubstr("default "), HasSubstr("("))) << key.path;
    }
    EXPECT_GT(paths.size(), 30u);
}

TEST(RunConfig, ReadsTheFilesThatComeWithTheProgram) {
    for (const char* file : {"cake", "full"}) {
        RunConfig config;
        apply_config_file(config, CAKE_SOURCE_DIR "/configs/" + std::string(file) + ".yaml");
        EXPECT_EQ(config.policy.name, file);
    }
}

// policy_list_test.cpp makes the policies of those that evaluate.
TEST(RunConfig, ReadsTheStudiesThatComeWithTheProgram) {
    int n = 0;
    for (const auto& file :
         std::filesystem::directory_iterator(CAKE_SOURCE_DIR "/configs/studies")) {
        RunConfig config;
        apply_config_file(config, file.path().string());
        std::ifstream in(file.path());
        const std::string text(std::istreambuf_iterator<char>(in), {});
        EXPECT_THAT(text, HasSubstr("--config configs/studies/" + file.path().filename().string()));
        ++n;
    }
    EXPECT_GE(n, 10);
}

TEST(RunConfig, NamesFilesThatCannotBeRead) {
    const TempFolder folder;
    RunConfig config;
    EXPECT_THAT(usage_message([&] { apply_config_file(config, folder.file("none.yaml")); }),
                AllOf(HasSubstr("none.yaml"), HasSubstr("No such file")));
    EXPECT_THAT(usage_message([&] { apply_config_file(config, folder.path()); }),
                HasSubstr("this is a folder"));
    const std::string path = folder.write("c.yaml", "chat: none\nbackend: x\n");
    EXPECT_THAT(usage_message([&] { apply_config_file(config, path); }),
                StartsWith(path + ":2: backend"));
}

TEST(NumberIn, ReadsCountsAndBytesWithUnits) {
    EXPECT_EQ(number_in("16"), 16);
    EXPECT_EQ(number_in("3KiB"), 3072);
    EXPECT_EQ(number_in("2 GiB"), std::int64_t(2) << 30);
    EXPECT_EQ(number_in("8388607TiB"), std::int64_t(8388607) << 40);
    for (const char* none :
         {"auto", "all", "", "-1", "1.5", "2GB", "9999999999TiB", "99999999999999999999", "KiB"})
        EXPECT_EQ(number_in(none), std::nullopt) << none;
}

}  // namespace
}  // namespace cake
