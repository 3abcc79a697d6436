#include "text/utf8.h"

#include <gmock/gmock.h>

namespace cake {
namespace {

TEST(Utf8, ReadsCharactersOfEveryLength) {
    const std::string text = "aé€😀";
    const auto unit = [&](std::size_t at) { return utf8_unit(text, at); };
    EXPECT_EQ(unit(0).code, 'a');
    EXPECT_EQ(unit(1).code, 0xE9);
    EXPECT_EQ(unit(3).code, 0x20AC);
    EXPECT_EQ(unit(6).code, 0x1F600);
    EXPECT_EQ(unit(6).bytes, 4u);
    EXPECT_TRUE(is_utf8(text));
    EXPECT_TRUE(is_utf8(""));
}

TEST(Utf8, RefusesOverlongFormsSurrogatesAndWhatLiesBeyondUnicode) {
    for (const char* bytes : {"\xC0\x80", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
                              "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\x80"})
        EXPECT_FALSE(is_utf8(bytes)) << bytes;
}

// The table of the Unicode standard, section 3.9 (U+FFFD substitution of maximal subparts).
TEST(Utf8, MendsEveryMaximalBrokenPartWithOneReplacement) {
    const std::string r(replacement_character);
    EXPECT_EQ(mend_utf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
              r + r + r + r + r + r + r + r + "A");
    EXPECT_EQ(mend_utf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
              r + r + r + r + r + r + r + r + "A");
    EXPECT_EQ(mend_utf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
              r + r + r + r + r + "A" + r + r + "B");
    EXPECT_EQ(mend_utf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
    EXPECT_EQ(mend_utf8("a\xF0\x9F"), "a" + r);
    EXPECT_EQ(mend_utf8("fine €"), "fine €");
}

TEST(Utf8, KeepsAnUnfinishedCharacterForLater) {
    std::string bytes = "ab\xF0\x9F\x98";
    EXPECT_EQ(take_whole_characters(bytes), "ab");
    EXPECT_EQ(bytes, "\xF0\x9F\x98");
    EXPECT_EQ(take_whole_characters(bytes), "");
    bytes += '\x80';
    EXPECT_EQ(take_whole_characters(bytes), "😀");
    EXPECT_EQ(bytes, "");
}

TEST(Utf8, DoesNotWaitForWhatCannotBecomeACharacter) {
    std::string bytes = "\xF0\x9F\x41\x80";
    const std::string r(replacement_character);
    EXPECT_EQ(take_whole_characters(bytes), r + "A" + r);
    EXPECT_EQ(bytes, "");
}

}  // namespace
}  // namespace cake
