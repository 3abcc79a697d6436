// LongBench's metrics on texts whose scores are reckoned by hand.
#include "eval/metrics.h"

#include <gmock/gmock.h>

#include "eval/edit_similarity.h"
#include "eval/python_text.h"
#include "eval/rouge.h"
#include "support/expect_error.h"

namespace cake {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Classes = std::vector<std::string>;

TEST(PythonText, SplitsAtEveryWhiteSpaceOfUnicode) {
    EXPECT_THAT(split_at_spaces(U" a\u00A0b\u2003c\x1F\u3000"), ElementsAre(U"a", U"b", U"c"));
    EXPECT_THAT(split_at_spaces(U"a\u200Bb"),
                ElementsAre(U"a\u200Bb"));  // no white space to Python
    EXPECT_THAT(split_at_spaces(U" \n"), IsEmpty());
    EXPECT_THAT(split_at(U"a..b", U'.'), ElementsAre(U"a", U"", U"b"));
    EXPECT_THAT(split_at(U"", U'.'), ElementsAre(U""));
}

TEST(PythonText, LowersLettersThatNeedTheirNeighbours) {
    EXPECT_EQ(python_lower(U"ÄÇŁ"), U"äçł");
    EXPECT_EQ(python_lower(U"\u0130"), U"i\u0307");
    EXPECT_EQ(python_lower(U"ΣΟΦΟΣ ΣΑΣ. Σ"), U"σοφος σας. σ");  // at the end of a word ς
    EXPECT_EQ(python_lower(U"ΟΣ'Α"), U"οσ'α");                  // the apostrophe ends none
}

TEST(PythonText, FindsDigitsOfAnyScript) {
    EXPECT_THAT(runs_of_digits(U"a12b٣٤5"), ElementsAre(U"12", U"٣٤5"));
    EXPECT_THAT(runs_of_digits(U"x²½"), IsEmpty());
}

TEST(TokenF1, CountsWordsWithoutCaseArticlesAndPunctuation) {
    EXPECT_DOUBLE_EQ(token_f1("The Cat sat.", "a cat sat down"), 0.8);  // 2 of 2, 2 of 3
    EXPECT_DOUBLE_EQ(token_f1("b b b", "b, b"), 0.8);                   // 2 of 3, 2 of 2
    EXPECT_DOUBLE_EQ(token_f1("It is 1,000.", "it is 1000"), 1);
    EXPECT_DOUBLE_EQ(token_f1("the_end", "theend"), 1);
}

TEST(TokenF1, IsNothingWithoutACommonWord) {
    EXPECT_EQ(token_f1("", "yes"), 0);
    EXPECT_EQ(token_f1("the", "the"), 0);  // nothing is left of either
    EXPECT_EQ(token_f1("no", "yes"), 0);
}

TEST(TokenF1, ComparesUnicodeAsPythonDoes) {
    EXPECT_DOUBLE_EQ(token_f1("ÉCOLE", "école"), 1);
    EXPECT_DOUBLE_EQ(token_f1("x\u00A0y", "x y"), 1);
    EXPECT_EQ(token_f1("“yes”", "yes"), 0);       // quotation marks beyond ASCII stay
    EXPECT_DOUBLE_EQ(token_f1("a–z", "–z"), 1);   // "a" is a word there
    EXPECT_EQ(token_f1("á", "\u0301"), 0);        // one letter
    EXPECT_EQ(token_f1("a\u0301", "\u0301"), 1);  // an article and a mark
    EXPECT_DOUBLE_EQ(token_f1("ΟΔΟΣ", "οδος"), 1);
}

TEST(RougeL, IsTheMeanOfPrecisionAndRecall) {
    EXPECT_NEAR(rouge_l("a b c.", "a c"), 0.8, 1e-8);  // 2 of 3, 2 of 2
    EXPECT_NEAR(rouge_l("b a", "a b"), 0.5, 1e-8);     // one word is in order
    EXPECT_NEAR(rouge_l("a  b\n", "a b"), 1, 1e-8);
    EXPECT_LT(rouge_l("a", "a"), 1);  // 1e-8 in the denominator
}

// The example of the paper (Lin 2004, section 3.2): 4 of 5 words; the prediction has 8 words.
TEST(RougeL, TakesTheUnionOverSentences) {
    EXPECT_NEAR(rouge_l("w1 w2 w6 w7 w8. w1 w3 w8 w9 w5", "w1 w2 w3 w4 w5"),
                2 * 0.8 * 0.5 / (0.8 + 0.5), 1e-8);
}

TEST(RougeL, CountsAWordOnce) {
    EXPECT_NEAR(rouge_l("a a a", "a"), 1, 1e-8);
    EXPECT_NEAR(rouge_l("a b. a c", "a b c"), 1, 1e-8);
}

TEST(RougeL, IsNothingWithoutSentences) {
    EXPECT_EQ(rouge_l("", "a"), 0);
    EXPECT_EQ(rouge_l("a", ""), 0);
    EXPECT_EQ(rouge_l("...", "a"), 0);
    EXPECT_EQ(rouge_l("b", "a"), 0);
    EXPECT_NEAR(rouge_l(" .", " "), 1, 1e-8);  // a sentence of spaces has one word, the empty one
}

TEST(Classification, DividesByTheClassesThatAreNamed) {
    const Classes classes{"Food", "Date", "Order, rank"};
    EXPECT_EQ(classification_score("Food", "Food", classes), 1);
    EXPECT_EQ(classification_score("Food or Date", "Food", classes), 0.5);
    EXPECT_EQ(classification_score("Date", "Food", classes), 0);
    EXPECT_EQ(classification_score("food", "Food", classes), 0);
    EXPECT_EQ(classification_score("", "Food", classes), 0);
}

TEST(Classification, ForgivesClassesThatAreParts) {
    EXPECT_EQ(classification_score("Other location", "Other location",
                                   Classes{"Other", "Other location", "location"}),
              1);
    // The loop goes on behind the name that took the place of a removed one.
    EXPECT_EQ(classification_score("Other location", "Other location",
                                   Classes{"Other", "location", "Other location"}),
              0.5);
    // A part that is right is no whole.
    EXPECT_EQ(classification_score("Other location", "Other", Classes{"Other", "Other location"}),
              0.5);
}

TEST(Count, IsThePartOfNumbersThatAreRight) {
    EXPECT_EQ(count_score("There are 5 or 6.", "5"), 0.5);
    EXPECT_EQ(count_score("5", "5"), 1);
    EXPECT_EQ(count_score("15", "5"), 0);
    EXPECT_EQ(count_score("05", "5"), 0);
    EXPECT_EQ(count_score("5 ٥", "5"), 0.5);  // a digit, and another text
    EXPECT_EQ(count_score("five", "5"), 0);
    EXPECT_EQ(count_score("", "5"), 0);
}

TEST(Retrieval, LooksForTheParagraphsNumber) {
    EXPECT_EQ(retrieval_score("Paragraph 3 or 13", "Paragraph 13"), 0.5);
    EXPECT_EQ(retrieval_score("13", "Paragraph 13"), 1);
    EXPECT_EQ(retrieval_score("Paragraph", "Paragraph 13"), 0);
    EXPECT_EQ(retrieval_score("7", "Paragraph x, Paragraph 7"), 1);
    EXPECT_THAT(usage_message([] { retrieval_score("1", "paragraph 1"); }),
                HasSubstr("'paragraph 1' is not of the form 'Paragraph N'"));
}

TEST(CodeSimilarity, TakesTheFirstLineOfCode) {
    EXPECT_EQ(code_similarity("\n# comment\n```\na // b\nx = 1\ny", "x = 1"), 1);
    EXPECT_EQ(code_similarity("# nothing else", "x"), 0);
    EXPECT_EQ(code_similarity("a\nb", "a"), 1);
    EXPECT_EQ(code_similarity("", "x"), 0);
    EXPECT_EQ(code_similarity("x\n\n", ""), 0);
    EXPECT_EQ(code_similarity("", ""), 1);
    EXPECT_EQ(code_similarity("#a\n\nx", "x"), 0);  // an empty line is the first
}

TEST(EditSimilarity, CountsCharactersInMatchingBlocks) {
    EXPECT_EQ(edit_similarity("abcd", "bcde"), 75);  // 2 * 3 / 8
    EXPECT_EQ(edit_similarity("äöü", "äöx"), 67);    // 2 * 2 / 6: characters, not bytes
    // The longest block first ("bcd"), then what is left of it and right of it.
    EXPECT_EQ(edit_similarity("abXbcd", "bcdab"), 55);  // 2 * 3 / 11
    EXPECT_EQ(edit_similarity("a", "b"), 0);
}

TEST(EditSimilarity, RoundsHalvesToTheEvenNumber) {
    EXPECT_EQ(edit_similarity("axxxxxxx", "ayyyyyyy"), 12);  // 12.5
    EXPECT_EQ(edit_similarity("abcxxxxx", "abcyyyyy"), 38);  // 37.5
}

TEST(SequenceRatio, BeginsNoBlockAtWhatIsFrequentInALongText) {
    const auto x = [](std::size_t n) { return std::u32string(n, U'x'); };
    EXPECT_DOUBLE_EQ(sequence_ratio(x(198), x(199)), 2.0 * 198 / 397);
    // 200 of 200 are frequent. But for the first "y", the texts' beginnings would match.
    EXPECT_DOUBLE_EQ(sequence_ratio(U"y" + x(198), x(199)), 2.0 * 198 / 398);
    EXPECT_EQ(sequence_ratio(U"y" + x(199), x(200)), 0);
    EXPECT_DOUBLE_EQ(sequence_ratio(x(199), x(200)), 2.0 * 199 / 399);
    // A block that begins at "q" is made longer by them.
    EXPECT_DOUBLE_EQ(sequence_ratio(x(150) + U"q", x(199) + U"q"), 2.0 * 151 / 351);
    // As many as 1 % and one are not frequent yet: "x" and "y" are 3 each.
    std::u32string many;
    for (char32_t c = 0; c < 194; ++c)
        many += char32_t(0x4E00 + c);
    EXPECT_DOUBLE_EQ(sequence_ratio(U"xxx", many + U"xxxyyy"), 2.0 * 3 / 203);
    EXPECT_EQ(sequence_ratio(U"xxx", many + U"xxxxyy"), 0);
    EXPECT_EQ(sequence_ratio(U"", U""), 1);
}

}  // namespace
}  // namespace cake
