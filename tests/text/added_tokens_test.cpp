#include "text/added_tokens.h"

#include <gmock/gmock.h>

namespace cake {
namespace {

using testing::ElementsAre;

AddedToken token(TokenId id, const std::string& text) {
    AddedToken out;
    out.id = id;
    out.text = text;
    return out;
}

// The parts of a text: "text" or "id:text".
std::vector<std::string> parts(const std::vector<AddedToken>& tokens, std::string_view text) {
    std::vector<std::string> out;
    for (const Gap& gap : AddedTokens(tokens).split(text)) {
        const std::string part(text.substr(gap.range.begin, gap.range.end - gap.range.begin));
        out.push_back(gap.token < 0 ? part : std::to_string(gap.token) + ":" + part);
    }
    return out;
}

TEST(AddedTokens, KeepsSpecialTokensWhole) {
    EXPECT_THAT(parts({token(1, "<s>"), token(2, "</s>")}, "<s>a</s><s>b"),
                ElementsAre("1:<s>", "a", "2:</s>", "1:<s>", "b"));
    EXPECT_THAT(parts({token(1, "<s>")}, ""), ElementsAre());
    EXPECT_THAT(parts({}, "abc"), ElementsAre("abc"));
}

TEST(AddedTokens, PrefersTheLeftmostThenTheLongest) {
    EXPECT_THAT(parts({token(1, "ab"), token(2, "abcd"), token(3, "bcde")}, "xabcde"),
                ElementsAre("x", "2:abcd", "e"));
    EXPECT_THAT(parts({token(1, "ab"), token(2, "abcd")}, "abc"), ElementsAre("1:ab", "c"));
}

TEST(AddedTokens, TakesSpacesWhereTold) {
    AddedToken left = token(1, "<l>"), right = token(2, "<r>");
    left.takes_left = right.takes_right = true;
    EXPECT_THAT(parts({left, right}, "a \u3000<l> b<r> \n c"),
                ElementsAre("a", "1: \u3000<l>", " b", "2:<r> \n ", "c"));
    EXPECT_THAT(parts({left, right}, "<r>  <l>"), ElementsAre("2:<r>  ", "1:<l>"));
}

TEST(AddedTokens, FindsSingleWordsOnlyBetweenOthers) {
    AddedToken word = token(1, "ab");
    word.single_word = true;
    EXPECT_THAT(parts({word}, "ab abc éab ab-ab_"),
                ElementsAre("1:ab", " abc éab ", "1:ab", "-ab_"));
}

TEST(AddedTokens, NeverCutsACharacter) {
    EXPECT_THAT(parts({token(1, "\xA9"), token(2, "")}, "é©"), ElementsAre("é©"));
}

}  // namespace
}  // namespace cake
