#include <gmock/gmock.h>

#include "text/small_tokenizers.h"
#include "text/tokenizer.h"

namespace cake {
namespace {

using testing::ElementsAre;

// What each id prints, and last what is left.
std::vector<std::string> pieces(const nlohmann::json& file, const std::vector<TokenId>& ids,
                                bool skip_special = true) {
    const Tokenizer tokenizer = Tokenizer::from_json(file.dump(), "tokenizer.json");
    StreamDecoder stream(tokenizer, skip_special);
    std::vector<std::string> out;
    for (const TokenId id : ids)
        out.push_back(stream.next(id));
    out.push_back(stream.finish());
    return out;
}

TEST(StreamDecoder, WaitsForTheRestOfACharacter) {
    EXPECT_THAT(pieces(test::small_byte_level(), {0, 5, 6, 1}), ElementsAre("a", "", "é", "b", ""));
    EXPECT_THAT(pieces(test::small_byte_level(), {0, 5}), ElementsAre("a", "", "\uFFFD"));
    EXPECT_THAT(pieces(test::small_byte_level(), {5, 0}), ElementsAre("",
                                                                      "\uFFFD"
                                                                      "a",
                                                                      ""));
}

TEST(StreamDecoder, LetsSkippedTokensNotCutACharacter) {
    EXPECT_THAT(pieces(test::small_byte_level(), {5, 7, 6}), ElementsAre("", "", "é", ""));
    EXPECT_THAT(pieces(test::small_byte_level(), {5, 7, 6}, false),
                ElementsAre("", "\uFFFD<end>", "\uFFFD", ""));
}

TEST(StreamDecoder, HoldsARunOfBytesUntilItEnds) {
    // A later byte may make all of it unreadable, so even a whole character waits.
    EXPECT_THAT(pieces(test::small_sentencepiece(), {5, 2, 3, 5}),
                ElementsAre("a", "", "", "éa", ""));
    EXPECT_THAT(pieces(test::small_sentencepiece(), {2, 3, 2, 5}), ElementsAre("", "", "",
                                                                               "\uFFFD\uFFFD\uFFFD"
                                                                               "a",
                                                                               ""));
    EXPECT_THAT(pieces(test::small_sentencepiece(), {5, 7}), ElementsAre("a", "", "\n"));
}

TEST(StreamDecoder, TakesOneSpaceFromTheStartOfTheText) {
    EXPECT_THAT(pieces(test::small_sentencepiece(), {1, 6, 6}), ElementsAre("", "a", " a", ""));
    EXPECT_THAT(pieces(test::small_sentencepiece(), {4, 4, 6}), ElementsAre("", " ", " a", ""));
    EXPECT_THAT(pieces(test::small_sentencepiece(), {1, 6}, false), ElementsAre("<s>", " a", ""));
}

TEST(StreamDecoder, IgnoresIdsThatAreNoTokens) {
    EXPECT_THAT(pieces(test::small_byte_level(), {-1, 99, 0}), ElementsAre("", "", "a", ""));
}

}  // namespace
}  // namespace cake
