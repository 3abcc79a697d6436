// Lists of policies, as studies name them.
#include "policy/policy_list.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace cake {
namespace {

std::vector<std::string> labels(const std::vector<ListedPolicy>& list) {
    std::vector<std::string> out;
    for (const ListedPolicy& p : list)
        out.push_back(p.label);
    return out;
}

TEST(PolicyList, IsEachPolicyWithEachSizeAndFullOnce) {
    PolicyConfig base;
    base.window = 16;
    const std::vector<std::string> names{"full", "snapkv", "cake:share=uniform:score=mean"};
    const std::vector<int> sizes{64, 128};
    const auto list = list_policies(base, names, sizes, {});
    EXPECT_EQ(labels(list), (std::vector<std::string>{"full", "snapkv-64", "snapkv-128",
                                                      "cake:share=uniform:score=mean-64",
                                                      "cake:share=uniform:score=mean-128"}));
    const Policy& variant = list[4].policy;
    EXPECT_EQ(variant.name, "cake:share=uniform:score=mean");
    EXPECT_EQ(variant.share, Share::Uniform);
    EXPECT_EQ(variant.score, ColumnScore::Mean);
    EXPECT_EQ(variant.window, 16);
    EXPECT_EQ(variant.cache_size, 128);
    EXPECT_EQ(list[4].cells.name, "cake");
    EXPECT_EQ(make_policy(list[4].cells, {}).share, Share::Uniform);
}

TEST(PolicyList, IsTheConfigurationsOneWhereNoneIsNamed) {
    PolicyConfig base;
    base.name = "tova";
    EXPECT_EQ(labels(list_policies(base, {}, {}, {})), std::vector<std::string>{"tova-1024"});
}

TEST(PolicyList, NamesWhatItDoesNotKnow) {
    const auto message = [](const std::string& name) {
        return usage_message([&] { list_policies({}, {&name, 1}, {}, {}); });
    };
    EXPECT_NE(message("cak").find("policy cak is unknown"), std::string::npos);
    EXPECT_NE(message("cake:shar=uniform").find("the nearest one is policy.share"),
              std::string::npos);
    EXPECT_NE(message("cake:name=full").find("there is no"), std::string::npos);
    EXPECT_NE(message("cake:share").find("write NAME:cell=value"), std::string::npos);
    EXPECT_NE(message("cake:gamma=x").find("allowed is a number"), std::string::npos);
}

TEST(PolicyList, MayBeDealtToParts) {
    RunConfig config;
    config.eval.policies = {"full", "snapkv", "cake"};
    config.eval.cache_sizes = {64, 128};
    const auto part = [&](const std::string& name) {
        config.eval.part = name;
        return labels(eval_policies(config, {}));
    };
    using Labels = std::vector<std::string>;
    EXPECT_EQ(part("0/1").size(), 5u);
    EXPECT_EQ(part("0/2"), (Labels{"full", "snapkv-128", "cake-128"}));
    EXPECT_EQ(part("1/2"), (Labels{"snapkv-64", "cake-64"}));
    EXPECT_EQ(part("4/5"), (Labels{"cake-128"}));
    for (const char* wrong : {"2/2", "1", "/2", "1/", "x/2", "-1/2", "0/0", ""})
        EXPECT_NE(usage_message([&] { part(wrong); }).find("write I/N"), std::string::npos)
            << wrong;
    EXPECT_NE(usage_message([&] { part("5/6"); }).find("only 5 policies"), std::string::npos);
}

// Studies that evaluate name the number of their cells, where an array of jobs does them.
TEST(PolicyList, OfEveryStudyThatComesWithTheProgramCanBeMade) {
    int n = 0, arrays = 0;
    for (const auto& file :
         std::filesystem::directory_iterator(CAKE_SOURCE_DIR "/configs/studies")) {
        RunConfig config;
        apply_config_file(config, file.path().string());
        if (config.eval.policies.empty())
            continue;  // of `bench`
        ++n;
        const auto policies = eval_policies(config, {});
        EXPECT_FALSE(policies.empty()) << file.path();
        std::ifstream in(file.path());
        const std::string text(std::istreambuf_iterator<char>(in), {});
        const std::size_t array = text.find("--array=0-");
        if (array == std::string::npos)
            continue;
        ++arrays;
        EXPECT_EQ(std::stoi(text.substr(array + 10)) + 1, int(policies.size())) << file.path();
    }
    EXPECT_EQ(n, 11);
    EXPECT_EQ(arrays, 7);
}

}  // namespace
}  // namespace cake
