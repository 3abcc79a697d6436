#include "text/normalise.h"

#include <gmock/gmock.h>

#include "base/error.h"

namespace cake {
namespace {

TEST(Normalizer, ComposesAndDecomposes) {
    EXPECT_EQ(to_normal_form(NormalForm::Nfc, "e\u0301"), "\u00e9");
    EXPECT_EQ(to_normal_form(NormalForm::Nfd, "\u00e9"), "e\u0301");
    EXPECT_EQ(to_normal_form(NormalForm::Nfc, "\u1100\u1161"), "\uac00");  // Hangul
    EXPECT_EQ(to_normal_form(NormalForm::Nfc, "\u212b"), "\u00c5");        // Ångström sign
    EXPECT_EQ(to_normal_form(NormalForm::Nfkc, "\ufb01\u00a0"), "fi ");
    EXPECT_EQ(to_normal_form(NormalForm::Nfkd, "\ufb01\u00e9"), "fie\u0301");
    EXPECT_EQ(to_normal_form(NormalForm::Nfc, "\ufb01 plain \u00e9"), "\ufb01 plain \u00e9");
    EXPECT_EQ(to_normal_form(NormalForm::Nfc, ""), "");
}

TEST(Normalizer, OrdersMarks) {
    // The dot below (class 220) comes before the acute (230), and composes first.
    EXPECT_EQ(to_normal_form(NormalForm::Nfc, "x\u0301\u0323"), "x\u0323\u0301");
    EXPECT_EQ(to_normal_form(NormalForm::Nfc, "a\u0301\u0323"), "\u1ea1\u0301");
    // Marks of the same class keep their order.
    EXPECT_EQ(to_normal_form(NormalForm::Nfd, "x\u0301\u0300"), "x\u0301\u0300");
}

TEST(Normalizer, DecomposesTheLongestLigature) {
    EXPECT_EQ(to_normal_form(NormalForm::Nfkd, "\ufdfa").size(), 33u);  // 18 code points
}

TEST(Normalizer, SortsEndlessMarksQuickly) {
    std::string marks = "a", below, above;
    for (int i = 0; i < 100'000; ++i) {
        marks += "\u0302\u0323";
        below += "\u0323";
        above += "\u0302";
    }
    EXPECT_TRUE(to_normal_form(NormalForm::Nfd, marks) == "a" + below + above);
}

TEST(Normalizer, AppliesStepsInOrder) {
    std::vector<NormalizerStep> steps;
    steps.emplace_back(PrependStep{"▁"});
    steps.emplace_back(ReplaceStep{" ", "▁"});
    EXPECT_EQ(normalise(steps, "a b "), "▁a▁b▁");
    EXPECT_EQ(normalise(steps, " "), "▁▁");
    EXPECT_EQ(normalise(steps, ""), "");
}

TEST(Normalizer, StopsATextThatGrowsWithoutBound) {
    std::vector<NormalizerStep> steps;
    for (int i = 0; i < 30; ++i)
        steps.emplace_back(ReplaceStep{"a", "aaaaaaaaaaaaaaaa"});
    EXPECT_THROW(normalise(steps, "a"), Error);
}

}  // namespace
}  // namespace cake
