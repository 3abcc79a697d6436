#include "policy/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cake::test {
namespace {

using testing::HasSubstr;

std::string message(const PolicyConfig& config) {
    try {
        make_policy(config, {});
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ExitCode::Usage);
        return e.what();
    }
    return "accepted";
}

TEST(Policy, CakeIsTheOfficialRepositorysRow) {
    const Policy p = make_policy({}, {});
    EXPECT_EQ(p.name, "cake");
    EXPECT_EQ(p.cache_size, 1024);
    EXPECT_EQ(p.window, 32);
    EXPECT_EQ(p.pool, 5);
    EXPECT_EQ(p.gamma, 200);
    EXPECT_EQ(p.share, Share::Preference);
    EXPECT_EQ(p.decode, DecodeEvict::Position);
    EXPECT_TRUE(p.cascade);
}

TEST(Policy, FullKeepsEverythingWhateverElseIsSet) {
    PolicyConfig c;
    c.name = "full";
    c.cache_size = 128;
    c.decode = "position";
    const Policy p = make_policy(c, {});
    EXPECT_TRUE(p.keeps_everything());
    EXPECT_FALSE(p.evicts(1 << 20));
    EXPECT_EQ(p.decode, DecodeEvict::None);
}

TEST(Policy, AnyCellOfARowCanBeSet) {
    PolicyConfig c;
    c.score = "mean";
    c.share = "uniform";
    c.decode = "none";
    c.cache_size = 100;
    c.tau1 = 3;
    const Policy p = make_policy(c, {});
    EXPECT_EQ(p.score, ColumnScore::Mean);
    EXPECT_EQ(p.share, Share::Uniform);
    EXPECT_EQ(p.decode, DecodeEvict::None);
    EXPECT_EQ(p.tau1, 3);
}

TEST(Policy, SaysWhatIsWrongWithACell) {
    PolicyConfig c;
    c.name = "kake";
    EXPECT_THAT(
        message(c),
        HasSubstr(
            "policy kake is unknown; there are: full, cake, streaming, snapkv, pyramidkv, h2o, "
            "tova"));
    c = {};
    c.cache_size = 32;
    EXPECT_THAT(message(c),
                HasSubstr("policy.cache_size is 32, which the window of 32 tokens fills"));
    c = {};
    c.pool = 4;
    EXPECT_THAT(message(c), HasSubstr("policy.pool is 4; it must be odd"));
    c = {};
    c.score = "median";
    EXPECT_THAT(
        message(c),
        HasSubstr("policy.score is median; it can be mean, variance, mean+variance, product"));
    c = {};
    c.window = 1;
    EXPECT_THAT(message(c), HasSubstr("a variance needs at least 2"));
    c = {};
    c.tau1 = 0;
    EXPECT_THAT(message(c), HasSubstr("policy.tau1 is 0"));
}

TEST(Policy, StreamingKeepsSinksAndTheLatest) {
    PolicyConfig c;
    c.name = "streaming";
    c.cache_size = 100;
    const Policy p = make_policy(c, {});
    EXPECT_EQ(p.sinks, 4);
    EXPECT_EQ(p.window, 96);
    EXPECT_EQ(p.prefix_budget(), 4);
    EXPECT_EQ(p.observe, Observe::Nothing);
    EXPECT_FALSE(p.evicts(100));
    EXPECT_TRUE(p.evicts(101));
    c.sinks = 100;
    EXPECT_THAT(message(c), HasSubstr("policy.sinks is 100; it must be less than the cache size"));
    c.sinks = 0;
    EXPECT_EQ(make_policy(c, {}).window, 100);
    c.sinks = 4;
    c.window = 32;
    EXPECT_THAT(message(c), HasSubstr("policy.window is 32, and where nothing observes it is the "
                                      "cache size less the sinks, 96"));
    c.window = 96;
    EXPECT_EQ(message(c), "accepted") << "what a report records";
    c.window.reset();
    c.rounding = "official";
    EXPECT_THAT(message(c), HasSubstr("policy.rounding official belongs to shares by preference"));
    c.rounding.reset();
    c.share = "preference";
    EXPECT_THAT(message(c), HasSubstr("shares by preference need to observe"));
}

TEST(Policy, H2oSumsAllAttentionAndProtectsARecentHalf) {
    PolicyConfig c;
    c.name = "h2o";
    Policy p = make_policy(c, {});
    EXPECT_EQ(p.observe, Observe::All);
    EXPECT_EQ(p.score, ColumnScore::Mean);
    EXPECT_EQ(p.heads, Heads::Group);
    EXPECT_EQ(p.share, Share::Uniform);
    EXPECT_EQ(p.decode, DecodeEvict::Position);
    EXPECT_EQ(p.cache_size, 1024);
    EXPECT_EQ(p.window, 512);
    EXPECT_TRUE(p.accumulates());
    c.cache_size = 101;
    EXPECT_EQ(make_policy(c, {}).window, 50);
    c.window = 7;
    EXPECT_EQ(make_policy(c, {}).window, 7);
    c.window = 101;
    EXPECT_THAT(message(c),
                HasSubstr("policy.cache_size is 101, which the window of 101 tokens fills"));
    c.window.reset();
    c.decode = "none";
    EXPECT_FALSE(make_policy(c, {}).accumulates()) << "nothing asks for sums any more";
    c.share = "preference";
    EXPECT_THAT(message(c), HasSubstr("policy.observe is all, and shares by preference need a "
                                      "window"));
    c.share = "pyramid";
    EXPECT_EQ(message(c), "accepted");
    c.pool = 5;
    EXPECT_THAT(message(c),
                HasSubstr("policy.pool is 5; where policy.observe is all, it must be 1"));
    c.pool.reset();
    c.score = "mean+variance";
    EXPECT_THAT(message(c),
                HasSubstr("policy.score is mean+variance; where policy.observe is all"));
    c.score.reset();
    c.heads = "all";
    EXPECT_THAT(message(c), HasSubstr("policy.heads is all and policy.observe all"));
    c.heads.reset();
    c.stats = "model";
    ModelConfig narrow;
    narrow.dtype = DType::BF16;
    EXPECT_THROW(make_policy(c, narrow), Error);
    EXPECT_EQ(message(c), "accepted") << "an f32 model: the same";
}

TEST(Policy, TovaScoresByTheLastQueryOverAllHeads) {
    PolicyConfig c;
    c.name = "tova";
    const Policy p = make_policy(c, {});
    EXPECT_EQ(p.observe, Observe::Window);
    EXPECT_EQ(p.window, 1);
    EXPECT_EQ(p.score, ColumnScore::Mean);
    EXPECT_EQ(p.pool, 1);
    EXPECT_EQ(p.heads, Heads::All);
    EXPECT_EQ(p.share, Share::Uniform);
    EXPECT_EQ(p.decode, DecodeEvict::Position);
    EXPECT_EQ(p.cache_size, 1024);
    for (const std::string share : {"pyramid", "random"}) {
        c.share = share;
        EXPECT_EQ(message(c), "accepted") << share;
    }
    c.share = "preference";  // one query has no variance: all layers would be alike
    EXPECT_THAT(message(c), HasSubstr("a variance needs at least 2"));
    c.window = 2;
    EXPECT_EQ(message(c), "accepted");
    c.observe = "nothing";
    c.window.reset();
    c.share = "uniform";
    EXPECT_THAT(message(c), HasSubstr("policy.heads is all and policy.observe nothing"));
    c = {};
    c.heads = "some";
    EXPECT_THAT(message(c), HasSubstr("policy.heads is some; it can be group, all"));
    c.heads = "all";
    EXPECT_EQ(make_policy(c, {}).heads, Heads::All) << "cake's scores over all heads";
    c.name = "full";
    EXPECT_EQ(make_policy(c, {}).heads, Heads::Group) << "nothing is scored";
}

TEST(Policy, OnlyCakeLeavesAPromptWholeThatExceedsTheCacheByAWindow) {
    for (const std::string& name : policy_names()) {
        PolicyConfig c;
        c.name = name;
        c.cache_size = 100;
        EXPECT_EQ(make_policy(c, {}).evicts(132), name != "full" && name != "cake") << name;
        EXPECT_EQ(make_policy(c, {}).evicts(133), name != "full") << name;
    }
}

RunConfig with(const Policy& policy) {
    RunConfig config;
    config.policy = resolved({}, policy);
    return config;
}

TEST(Policy, EachHasAReadyFileThatSaysWhatItsRowSays) {
    for (const std::string& name : policy_names()) {
        RunConfig config;
        apply_config_file(config, std::string(CAKE_SOURCE_DIR) + "/configs/" + name + ".yaml");
        PolicyConfig alone;
        alone.name = name;
        EXPECT_EQ(to_json(with(make_policy(config.policy, {}))),
                  to_json(with(make_policy(alone, {}))))
            << name;
    }
}

}  // namespace
}  // namespace cake::test
