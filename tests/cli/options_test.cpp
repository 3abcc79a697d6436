#include "cli/options.h"

#include <gmock/gmock.h>

#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

// What a command that loads a model does with its arguments, on one rank.
RunConfig resolve(const std::vector<std::string>& arguments, std::string* report = nullptr) {
    int argc = 0;
    char** argv = nullptr;
    World world(argc, argv);
    CommandContext context{world, arguments};
    CLI::App app("", "cake test");
    const ModelOptions options(app);
    EXPECT_FALSE(parse_arguments(context, app));
    if (report)
        *report = options.report();
    return options.resolve(context);
}

std::string complaint(const std::vector<std::string>& arguments) {
    return usage_message([&] { resolve(arguments); });
}

TEST(ModelOptions, AreShortNamesOfConfigurationKeys) {
    std::string report;
    const RunConfig config = resolve({"--model",
                                      "m.gguf",
                                      "--backend",
                                      "cpu",
                                      "--policy",
                                      "full",
                                      "--cache-size",
                                      "128",
                                      "--window",
                                      "16",
                                      "--tau1",
                                      "1.5",
                                      "--tau2",
                                      "0.5",
                                      "--gamma",
                                      "100",
                                      "--rounding",
                                      "official",
                                      "--decode",
                                      "none",
                                      "--cascade",
                                      "false",
                                      "--max-new-tokens",
                                      "7",
                                      "--temperature",
                                      "0.8",
                                      "--top-p",
                                      "0.9",
                                      "--seed",
                                      "3",
                                      "--check",
                                      "--chat",
                                      "none",
                                      "--threads",
                                      "2",
                                      "--share-gpu",
                                      "--report",
                                      "r.json",
                                      "--quiet"},
                                     &report);
    EXPECT_EQ(config.model.path, "m.gguf");
    EXPECT_EQ(config.backend, "cpu");
    EXPECT_EQ(config.policy.name, "full");
    EXPECT_EQ(config.policy.cache_size, 128);
    EXPECT_EQ(config.policy.window, 16);
    EXPECT_EQ(config.policy.tau1, 1.5);
    EXPECT_EQ(config.policy.tau2, 0.5);
    EXPECT_EQ(config.policy.gamma, 100);
    EXPECT_EQ(config.policy.rounding, "official");
    EXPECT_EQ(config.policy.decode, "none");
    EXPECT_EQ(config.policy.cascade, false);
    EXPECT_EQ(config.generation.max_new_tokens, 7);
    EXPECT_EQ(config.generation.temperature, 0.8);
    EXPECT_EQ(config.generation.top_p, 0.9);
    EXPECT_EQ(config.generation.seed, 3);
    EXPECT_TRUE(config.check);
    EXPECT_EQ(config.chat, "none");
    EXPECT_EQ(config.engine.threads, "2");
    EXPECT_TRUE(config.engine.share_gpu);
    EXPECT_EQ(report, "r.json");
}

TEST(ModelOptions, AreAllOptional) { EXPECT_EQ(to_json(resolve({})), to_json(RunConfig())); }

TEST(ModelOptions, WinOverSettingsWhichWinOverFilesInTheirOrder) {
    const TempFolder folder;
    const std::string a = folder.write("a.yaml", "policy: {window: 1, pool: 1, tau1: 1, gamma: 1}");
    const std::string b = folder.write("b.yaml", "policy: {pool: 3, tau1: 3, gamma: 3}");
    // The order on the command line does not matter between the three kinds.
    const RunConfig config = resolve({"--gamma", "7", "--set", "policy.tau1=5", "--config", a,
                                      "--set", "policy.gamma=5", "--config", b, "--gamma", "9"});
    EXPECT_EQ(config.policy.window, 1);
    EXPECT_EQ(config.policy.pool, 3);
    EXPECT_EQ(config.policy.tau1, 5);
    EXPECT_EQ(config.policy.gamma, 9);  // of a flag given twice the last one
}

TEST(ModelOptions, NameTheFlagThatIsWrong) {
    EXPECT_EQ(
        complaint({"--window", "wide"}),
        "--window wide: policy.window is 'wide'; allowed is a whole number from 1 to 134217728");
    EXPECT_THAT(complaint({"--set", "polcy.window=3"}),
                HasSubstr("the nearest one is policy.window"));
    EXPECT_THAT(complaint({"--config", "/there/is/none.yaml"}),
                StartsWith("/there/is/none.yaml: cannot be opened"));
    EXPECT_THAT(complaint({"--log-level", "loud"}), HasSubstr("unknown log level 'loud'"));
    EXPECT_THAT(complaint({"--window"}),
                AllOf(HasSubstr("--window"), HasSubstr("`cake test --help`")));
    EXPECT_THAT(complaint({"stray"}), HasSubstr("stray"));
}

TEST(ModelOptions, TakeValuesThatLookLikeYamlAsTheyStand) {
    EXPECT_EQ(resolve({"--model", "[1]: #x"}).model.path, "[1]: #x");
    EXPECT_THAT(complaint({"--gamma=-1"}), HasSubstr("policy.gamma is '-1'"));
}

TEST(ModelOptions, ExplainEachFlagByItsKey) {
    CLI::App app("", "cake test");
    const ModelOptions options(app);
    const std::string help = app.help();
    EXPECT_THAT(help, AllOf(HasSubstr("--cache-size C"),
                            HasSubstr("policy.cache_size: tokens kept per layer"),
                            HasSubstr("--check"), HasSubstr("--config FILE")));
}

}  // namespace
}  // namespace cake
