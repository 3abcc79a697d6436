// Tokenizers in GGUF metadata: what they may hold, and what is refused.
#include <limits>

#include <gmock/gmock.h>

#include "io/gguf.h"
#include "support/expect_error.h"
#include "support/gguf_writer.h"
#include "support/temp_folder.h"
#include "text/tokenizer.h"

namespace cake {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// The metadata of a tokenizer, for tests to change.
struct Metadata {
    std::string model = "gpt2", pre = "gpt-2";
    std::vector<std::string> tokens = {"<end>", "a", "b", "ab", "Ġ", "Ġab"};
    std::vector<std::int32_t> types = {3, 1, 1, 1, 1, 1};
    std::vector<std::string> merges = {"a b", "Ġ ab"};
    std::vector<float> scores;
    std::vector<std::pair<std::string, std::uint32_t>> ids;
    std::vector<std::pair<std::string, bool>> flags;

    Tokenizer load() const {
        GgufWriter out;
        out.string("tokenizer.ggml.model", model);
        out.string("tokenizer.ggml.pre", pre);
        out.strings("tokenizer.ggml.tokens", tokens);
        out.integers("tokenizer.ggml.token_type", types);
        if (!merges.empty())
            out.strings("tokenizer.ggml.merges", merges);
        if (!scores.empty())
            out.numbers("tokenizer.ggml.scores", scores);
        for (const auto& [key, id] : ids)
            out.integer("tokenizer.ggml." + key, id);
        for (const auto& [key, flag] : flags)
            out.boolean("tokenizer.ggml." + key, flag);
        const float weight = 0;
        out.tensor("output_norm.weight", Shape{1}, {&weight, 1});
        const TempFolder folder;
        out.write(folder.file("model.gguf"));
        return Tokenizer::from_gguf(GgufFile(folder.file("model.gguf")));
    }
    std::string refusal() const {
        return usage_message([&] { load(); });
    }
};

Metadata sentencepiece() {
    Metadata m;
    m.model = "llama";
    m.pre = "default";
    m.tokens = {"<unk>", "<s>", "</s>", "<0x0A>", "▁", "a", "b", "▁a", "ab", "▁ab"};
    m.types = {2, 3, 3, 6, 1, 1, 1, 1, 1, 1};
    m.merges = {};
    m.scores = {0, 0, 0, 0, -6, -7, -8, -2, -1, -3};
    m.ids = {{"bos_token_id", 1}, {"eos_token_id", 2}, {"unknown_token_id", 0}};
    return m;
}

TEST(GgufTokenizer, ReadsAByteLevelOne) {
    Metadata m;
    m.ids = {{"eos_token_id", 0}};
    const Tokenizer t = m.load();
    EXPECT_THAT(t.encode("ab ab<end>", true), ElementsAre(3, 5, 0));
    EXPECT_THAT(t.end_of_sequence(), ElementsAre(0));
    EXPECT_TRUE(t.is_special(0));
    EXPECT_FALSE(t.adds_bos());
    EXPECT_EQ(t.kind(), "byte-level BPE (gpt-2)");
}

TEST(GgufTokenizer, MergesSentencePieceByScore) {
    const Tokenizer t = sentencepiece().load();
    // "ab" scores above "▁a", so "▁ab" comes of "▁" and "ab".
    EXPECT_THAT(t.encode("ab", true), ElementsAre(1, 9));
    EXPECT_THAT(t.encode("ab a\n", false), ElementsAre(9, 7, 3));
    EXPECT_TRUE(t.adds_bos());
    EXPECT_EQ(t.decode(std::vector<TokenId>{1, 9, 7, 3}), "ab a\n");
}

TEST(GgufTokenizer, PutsASpaceBehindSpecialTokensUnlessInstIsOne) {
    Metadata m = sentencepiece();
    EXPECT_THAT(m.load().encode("<s>a", false), ElementsAre(1, 7));
    m.tokens.push_back("[INST]");
    m.types.push_back(3);
    m.scores.push_back(0);
    EXPECT_THAT(m.load().encode("[INST]a", false), ElementsAre(10, 5));
    EXPECT_THAT(m.load().encode("a", false), ElementsAre(7));
}

TEST(GgufTokenizer, AddsNoSpaceWhereTold) {
    Metadata m = sentencepiece();
    m.flags = {{"add_space_prefix", false}};
    const Tokenizer t = m.load();
    EXPECT_THAT(t.encode("a a", false), ElementsAre(5, 7));
    EXPECT_EQ(t.decode(std::vector<TokenId>{7}), " a");
}

TEST(GgufTokenizer, FollowsTheFlagsForBosAndEos) {
    Metadata m = sentencepiece();
    m.flags = {{"add_bos_token", false}, {"add_eos_token", true}};
    EXPECT_THAT(m.load().encode("a", true), ElementsAre(7, 2));
    EXPECT_FALSE(m.load().adds_bos());
    // Llama 3 adds BOS where the file says nothing.
    m = Metadata();
    m.pre = "llama-bpe";
    m.ids = {{"bos_token_id", 0}};
    EXPECT_THAT(m.load().encode("a", true), ElementsAre(0, 1));
}

TEST(GgufTokenizer, EndsATurnAtTheTokensThatModelsUseForIt) {
    Metadata m;
    m.tokens.insert(m.tokens.end(), {"<|im_end|>", "<|eot_id|>", "<|endoftext|>"});
    m.types.insert(m.types.end(), {3, 3, 1});  // the last is plain text
    m.ids = {{"eos_token_id", 0}, {"eot_token_id", 1}};
    EXPECT_THAT(m.load().end_of_sequence(), ElementsAre(0, 1, 7, 6));
}

TEST(GgufTokenizer, NamesWhatIsNotSupported) {
    Metadata m;
    m.pre = "falcon";
    EXPECT_THAT(m.refusal(),
                AllOf(HasSubstr("model.gguf"), HasSubstr("'falcon'"), HasSubstr("smollm")));
    m.pre = "";
    EXPECT_THAT(m.refusal(), HasSubstr("tokenizer.ggml.pre"));
    m.model = "bert";
    EXPECT_THAT(m.refusal(), AllOf(HasSubstr("'bert'"), HasSubstr("gpt2, llama")));
}

TEST(GgufTokenizer, RefusesIdsThatAreNoTokens) {
    for (const char* key : {"bos_token_id", "eos_token_id", "eot_token_id", "eom_token_id"}) {
        for (const std::uint32_t id : {6u, 1u << 31, 0xFFFFFFFFu}) {
            Metadata m;
            m.ids = {{key, id}};
            EXPECT_THAT(m.refusal(), AllOf(HasSubstr(key), HasSubstr(std::to_string(id))));
        }
    }
}

TEST(GgufTokenizer, RefusesMergesOfTokensThatAreNotThere) {
    Metadata m;
    m.merges = {"a x"};
    EXPECT_THAT(m.refusal(), HasSubstr("token 'x'"));
    for (const char* merge : {"", " ", "a", "a ", " b", "a b c"}) {
        m.merges = {merge};
        EXPECT_THAT(m.refusal(), HasSubstr("not two tokens")) << merge;
    }
    m.merges = {};
    EXPECT_THAT(m.refusal(), HasSubstr("tokenizer.ggml.merges"));
}

TEST(GgufTokenizer, RefusesListsOfDifferentLength) {
    Metadata m;
    m.types.pop_back();
    EXPECT_THAT(m.refusal(), HasSubstr("6 tokens, but 5 token types"));
    m = sentencepiece();
    m.scores.pop_back();
    EXPECT_THAT(m.refusal(), HasSubstr("10 tokens, but 9 scores"));
    m.scores.clear();
    EXPECT_THAT(m.refusal(), HasSubstr("10 tokens, but 0 scores"));
}

TEST(GgufTokenizer, RefusesScoresAndPiecesThatNoModelHas) {
    Metadata m = sentencepiece();
    m.scores[5] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THAT(m.refusal(), HasSubstr("score of token 5"));
    m = sentencepiece();
    m.tokens[5] = std::string(5000, 'a');
    EXPECT_THAT(m.refusal(), HasSubstr("5000 bytes"));
}

TEST(GgufTokenizer, LivesWithDoublesInfiniteScoresAndBrokenText) {
    Metadata m = sentencepiece();
    m.tokens[8] = "▁a";
    m.tokens[9] = "\xFF\xE2";
    m.scores[7] = std::numeric_limits<float>::infinity();
    m.scores[8] = -std::numeric_limits<float>::infinity();
    const Tokenizer t = m.load();
    EXPECT_EQ(t.encode("a a\xFF", false).size(), 3u);
    EXPECT_EQ(t.decode(std::vector<TokenId>{9, 7, 8}), "\uFFFD\uFFFD a a");
}

TEST(GgufTokenizer, NeverCutsACharacterAtABrokenToken) {
    Metadata m;
    m.tokens[0] = "\xA9";  // the second byte of "é"
    EXPECT_THAT(m.load().encode("éa", false), ElementsAre(1));
}

}  // namespace
}  // namespace cake
