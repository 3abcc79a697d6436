#include "text/pretokenize.h"

#include <gmock/gmock.h>

#include "base/error.h"
#include "support/expect_error.h"

namespace cake {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Matches = SplitStep::Matches;

template <typename Step>
std::vector<std::string> words(Step step, const std::string& text, bool at_start = true) {
    std::vector<PreTokenizerStep> steps;
    steps.emplace_back(std::move(step));
    const Words found = pretokenize(steps, text, at_start);
    std::vector<std::string> out;
    for (const TextRange& range : found.ranges)
        out.push_back(found.text.substr(range.begin, range.end - range.begin));
    return out;
}

TEST(Pretokenizer, CutsAsGpt2Does) {
    EXPECT_THAT(words(gpt2_step(), "Hello  world's 12a!"),
                ElementsAre("Hello", " ", " world", "'s", " 12", "a", "!"));
    EXPECT_THAT(words(gpt2_step(), ""), IsEmpty());
}

TEST(Pretokenizer, CutsOffDigits) {
    EXPECT_THAT(words(digits_step(true), "a12b٣"), ElementsAre("a", "1", "2", "b", "٣"));
    EXPECT_THAT(words(digits_step(false), "a12b٣"), ElementsAre("a", "12", "b", "٣"));
}

TEST(Pretokenizer, TreatsMatchesAsEachBehaviourSays) {
    const auto cut = [](Matches matches, bool invert) {
        return words(SplitStep{Pattern("-"), matches, invert}, "a--b-c");
    };
    EXPECT_THAT(cut(Matches::Isolated, false), ElementsAre("a", "-", "-", "b", "-", "c"));
    EXPECT_THAT(cut(Matches::Removed, false), ElementsAre("a", "b", "c"));
    EXPECT_THAT(cut(Matches::Removed, true), ElementsAre("-", "-", "-"));
    EXPECT_THAT(cut(Matches::MergedWithPrevious, false), ElementsAre("a-", "-", "b-", "c"));
    EXPECT_THAT(cut(Matches::MergedWithNext, false), ElementsAre("a", "-", "-b", "-c"));
    EXPECT_THAT(cut(Matches::Contiguous, false), ElementsAre("a", "--", "b", "-", "c"));
}

TEST(Pretokenizer, ShowsEveryStepTheWordsAlone) {
    // GPT-2's pattern leaves the last of several spaces to the next word, but not to the next step's.
    std::vector<PreTokenizerStep> steps;
    steps.emplace_back(digits_step(true));
    steps.emplace_back(gpt2_step());
    const Words found = pretokenize(steps, "a  1", true);
    EXPECT_THAT(found.ranges, ElementsAre(TextRange{0, 1}, TextRange{1, 3}, TextRange{3, 4}));
}

TEST(Pretokenizer, PutsAMetaspaceInFrontAsTheSchemeSays) {
    const auto cut = [](MetaspaceStep::Prepend prepend, const char* text, bool at_start) {
        return words(MetaspaceStep{"▁", prepend, false}, text, at_start);
    };
    using enum MetaspaceStep::Prepend;
    EXPECT_THAT(cut(First, "a b", true), ElementsAre("▁a▁b"));
    EXPECT_THAT(cut(First, "a b", false), ElementsAre("a▁b"));
    EXPECT_THAT(cut(Always, "a b", false), ElementsAre("▁a▁b"));
    EXPECT_THAT(cut(Never, "a b", true), ElementsAre("a▁b"));
    EXPECT_THAT(cut(Always, " a", true), ElementsAre("▁a"));
    EXPECT_THAT(cut(Always, "▁a", true), ElementsAre("▁a"));
    EXPECT_THAT(words(MetaspaceStep{"▁", Always, true}, "a  b"), ElementsAre("▁a", "▁", "▁b"));
}

TEST(Pretokenizer, PutsASpaceInFrontOfAWord) {
    EXPECT_THAT(words(PrefixSpaceStep{}, "a"), ElementsAre(" a"));
    EXPECT_THAT(words(PrefixSpaceStep{}, " a"), ElementsAre(" a"));
}

TEST(Pattern, TakesUnicodesWhiteSpaceForSpaces) {
    // U+3000 and U+0085 are white space, U+180E is no longer.
    EXPECT_THAT(words(SplitStep{Pattern("\\s+")}, "a\u3000\u0085b\u180ec"),
                ElementsAre("a", "\u3000\u0085", "b\u180ec"));
    EXPECT_THAT(words(SplitStep{Pattern("[^\\s]+")}, "a\u180e b"),
                ElementsAre("a\u180e", " ", "b"));
}

TEST(Pattern, FindsLiteralText) {
    EXPECT_THAT(words(SplitStep{Pattern(".*", Pattern::Kind::Literal)}, "a.*b"),
                ElementsAre("a", ".*", "b"));
}

TEST(Pattern, NeverMatchesNothing) {
    EXPECT_THAT(words(SplitStep{Pattern("x*")}, "axxb"), ElementsAre("a", "xx", "b"));
    EXPECT_THAT(words(SplitStep{Pattern("(?=b)")}, "abb"), ElementsAre("abb"));
}

TEST(Pattern, SaysWhatIsWrongWithIt) {
    EXPECT_THAT(usage_message([] { Pattern("(a"); }),
                testing::AllOf(HasSubstr("'(a'"), HasSubstr("closing parenthesis")));
    EXPECT_THAT(usage_message([] { Pattern(""); }), HasSubstr("empty"));
    EXPECT_THAT(usage_message([] { Pattern(std::string(1 << 20, 'a')); }), HasSubstr("1048576"));
    // It could cut a character in two.
    EXPECT_THAT(usage_message([] { Pattern("\\C"); }), HasSubstr("\\C"));
}

TEST(Pattern, GivesUpOnEndlessWork) {
    EXPECT_THROW(words(SplitStep{Pattern("(a+)+$")}, std::string(5000, 'a') + "b"), Error);
}

TEST(Pattern, BacktracksFarWithoutOverflow) {
    const std::string text(300'000, 'a');
    EXPECT_THAT(words(SplitStep{Pattern("(?:a|b)+")}, text), ElementsAre(text));
}

}  // namespace
}  // namespace cake
