#include "text/bpe.h"

#include <random>

#include <gmock/gmock.h>

#include "text/bpe_model.h"

namespace cake {
namespace {

using testing::ElementsAre;
using Ids = std::vector<TokenId>;

Ids merged(const std::vector<Merge>& merges, Ids symbols) {
    const MergeTable table(merges);
    Merger(table).merge(symbols);
    return symbols;
}

TEST(Bpe, MergesTheBestRankedPairFirst) {
    // a b c: (b c) before (a b).
    const std::vector<Merge> merges = {{1, 2, 12, 1}, {2, 3, 23, 0}};
    EXPECT_THAT(merged(merges, {1, 2, 3}), ElementsAre(1, 23));
}

TEST(Bpe, MergesTheLeftmostOfEqualPairs) {
    const std::vector<Merge> merges = {{1, 1, 11, 0}};
    EXPECT_THAT(merged(merges, {1, 1, 1}), ElementsAre(11, 1));
    EXPECT_THAT(merged(merges, {1, 1, 1, 1}), ElementsAre(11, 11));
}

TEST(Bpe, MergesWhatMergesHaveMade) {
    const std::vector<Merge> merges = {{1, 2, 12, 0}, {12, 3, 123, 1}, {123, 123, 6, 2}};
    EXPECT_THAT(merged(merges, {1, 2, 3, 1, 2, 3}), ElementsAre(6));
}

TEST(Bpe, LeavesShortWordsAlone) {
    EXPECT_THAT(merged({{1, 1, 11, 0}}, {}), ElementsAre());
    EXPECT_THAT(merged({{1, 1, 11, 0}}, {1}), ElementsAre(1));
}

TEST(Bpe, TakesTheLastOfMergesWithTheSamePair) {
    EXPECT_THAT(merged({{1, 2, 7, 0}, {1, 2, 8, 1}}, {1, 2}), ElementsAre(8));
}

// The definition: look at all pairs, merge the best, again and again.
Ids merged_by_definition(const std::vector<Merge>& merges, Ids symbols) {
    for (;;) {
        const Merge* best = nullptr;
        std::size_t where = 0;
        for (std::size_t i = 0; i + 1 < symbols.size(); ++i)
            for (const Merge& m : merges)
                if (m.left == symbols[i] && m.right == symbols[i + 1] &&
                    (!best || m.rank < best->rank)) {
                    best = &m;
                    where = i;
                }
        if (!best)
            return symbols;
        symbols[where] = best->merged;
        symbols.erase(symbols.begin() + std::ptrdiff_t(where) + 1);
    }
}

TEST(Bpe, AgreesWithTheDefinitionOnRandomMerges) {
    std::mt19937 random(3);
    for (int round = 0; round < 300; ++round) {
        std::vector<Merge> merges;
        TokenId n_tokens = 3;
        for (std::uint32_t rank = 0; rank < 12; ++rank) {
            const auto any = [&] { return TokenId(random() % unsigned(n_tokens)); };
            const TokenId left = any(), right = any();
            const bool is_new = std::ranges::none_of(
                merges, [&](const Merge& m) { return m.left == left && m.right == right; });
            if (is_new)
                merges.push_back({left, right, n_tokens++, rank / 2});  // equal ranks too
        }
        Ids symbols(random() % 30);
        for (TokenId& symbol : symbols)
            symbol = TokenId(random() % 3);
        EXPECT_EQ(merged(merges, symbols), merged_by_definition(merges, symbols));
    }
}

// A vocabulary of these tokens, numbered in order.
Vocabulary vocabulary_of(const std::vector<std::string>& tokens) {
    Vocabulary out(tokens.size(), "test");
    for (std::size_t i = 0; i < tokens.size(); ++i)
        out.add(TokenId(i), tokens[i]);
    return out;
}

Ids encoded(const Vocabulary& vocabulary, const std::vector<Merge>& merges,
            const BpeOptions& options, std::string_view word) {
    const BpeModel model(vocabulary, merges, options);
    BpeModel::Encoder encoder(model);
    Ids ids, again;
    encoder.encode(word, ids);
    encoder.encode(word, again);  // what was remembered must be the same
    EXPECT_EQ(ids, again);
    return ids;
}

TEST(BpeModel, DropsUnknownCharactersWithoutAnUnknownToken) {
    const Vocabulary vocabulary = vocabulary_of({"a", "b"});
    EXPECT_THAT(encoded(vocabulary, {}, {}, "a€b"), ElementsAre(0, 1));
}

TEST(BpeModel, FusesNeighbouringUnknownCharactersWhereTold) {
    const Vocabulary vocabulary = vocabulary_of({"a", "?"});
    BpeOptions options;
    options.unknown = 1;
    EXPECT_THAT(encoded(vocabulary, {}, options, "x€ayz"), ElementsAre(1, 1, 0, 1, 1));
    options.fuse_unknown = true;
    EXPECT_THAT(encoded(vocabulary, {}, options, "x€ayz"), ElementsAre(1, 0, 1));
}

TEST(BpeModel, SpellsUnknownCharactersInBytes) {
    const Vocabulary vocabulary = vocabulary_of({"a", "<0xC3>", "<0xA9>", "?"});
    BpeOptions options;
    options.byte_fallback = true;
    options.unknown = 3;
    EXPECT_THAT(encoded(vocabulary, {}, options, "aé"), ElementsAre(0, 1, 2));
    EXPECT_THAT(encoded(vocabulary, {}, options, "aè"), ElementsAre(0, 3));  // one byte is missing
}

TEST(BpeModel, TakesAWholeTokenBeforeMergingWhereTold) {
    const Vocabulary vocabulary = vocabulary_of({"a", "b", "c", "ab", "abc"});
    const std::vector<Merge> merges = {{0, 1, 3, 0}};
    BpeOptions options;
    EXPECT_THAT(encoded(vocabulary, merges, options, "abc"), ElementsAre(3, 2));
    options.ignore_merges = true;
    EXPECT_THAT(encoded(vocabulary, merges, options, "abc"), ElementsAre(4));
    EXPECT_THAT(encoded(vocabulary, merges, options, "abcc"), ElementsAre(3, 2, 2));
}

TEST(BpeModel, MergesAcrossSpacesWhereTheModelDoes) {
    // "a▁" is a token: the text may not be cut in front of "▁".
    const Vocabulary vocabulary = vocabulary_of({"a", "▁", "a▁", "▁a"});
    EXPECT_THAT(encoded(vocabulary, {{0, 1, 2, 0}, {1, 0, 3, 1}}, {}, "a▁a"), ElementsAre(2, 0));
    // Here it may, and "▁▁" stays together.
    const Vocabulary other = vocabulary_of({"a", "▁", "▁▁", "▁a", "▁▁a"});
    EXPECT_THAT(encoded(other, {{1, 1, 2, 0}, {2, 0, 4, 1}, {1, 0, 3, 2}}, {}, "a▁▁a▁a"),
                ElementsAre(0, 4, 3));
}

}  // namespace
}  // namespace cake
