// tokenizer.json: what it may hold, and what is refused.
#include <gmock/gmock.h>

#include "support/expect_error.h"
#include "text/small_tokenizers.h"
#include "text/tokenizer.h"

namespace cake {
namespace {

using test::added_token;
using test::json;
using test::small_byte_level;
using test::small_sentencepiece;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

Tokenizer from(const json& file) { return Tokenizer::from_json(file.dump(), "tokenizer.json"); }
std::string refusal(const json& file) {
    return usage_message([&] { from(file); });
}

TEST(JsonTokenizer, ReadsAByteLevelOne) {
    const Tokenizer t = from(small_byte_level());
    EXPECT_EQ(t.kind(), "byte-level BPE");
    EXPECT_EQ(t.vocabulary_size(), 8);
    EXPECT_THAT(t.encode("ab ab<end>é", true), ElementsAre(2, 4, 7, 5, 6));
    EXPECT_EQ(t.decode(std::vector<TokenId>{2, 4, 7, 5, 6}), "ab abé");
    EXPECT_EQ(t.decode(std::vector<TokenId>{2, 7, 5}, false), "ab<end>\uFFFD");
    EXPECT_FALSE(t.adds_bos());
    EXPECT_EQ(t.bos(), std::nullopt);
}

TEST(JsonTokenizer, ReadsASentencePieceOne) {
    const Tokenizer t = from(small_sentencepiece());
    EXPECT_EQ(t.kind(), "SentencePiece BPE");
    EXPECT_THAT(t.encode("a aé?!", true), ElementsAre(1, 6, 6, 2, 3, 0));
    EXPECT_THAT(t.encode("<s>a", false), ElementsAre(1, 5));
    EXPECT_EQ(t.decode(std::vector<TokenId>{1, 6, 6, 2, 3}), "a aé");
    EXPECT_TRUE(t.adds_bos());
    EXPECT_EQ(t.bos(), 1);
}

TEST(JsonTokenizer, TakesMergesInBothForms) {
    json file = small_byte_level();
    file["model"]["merges"] = json::parse(R"([["a", "b"], ["Ġ", "ab"]])");
    EXPECT_THAT(from(file).encode(" ab", false), ElementsAre(4));
}

TEST(JsonTokenizer, TakesAModelWithoutAType) {
    json file = small_byte_level();
    file["model"].erase("type");
    EXPECT_THAT(from(file).encode("ab", false), ElementsAre(2));
}

TEST(JsonTokenizer, FindsNormalizedTokensInTheNormalisedText) {
    json file = small_byte_level();
    file["normalizer"] = {{"type", "NFC"}};
    file["added_tokens"].push_back(added_token(8, "é", false));
    EXPECT_THAT(from(file).encode("e\u0301é", false), ElementsAre(5, 6, 8));
    file["added_tokens"][1]["normalized"] = true;
    EXPECT_THAT(from(file).encode("e\u0301é", false), ElementsAre(8, 8));
    file["added_tokens"][1]["content"] = "e\u0301";
    EXPECT_THAT(from(file).encode("e\u0301é", false), ElementsAre(8, 8));
}

TEST(JsonTokenizer, DoesNotSkipAddedTokensThatAreNotSpecial) {
    json file = small_byte_level();
    file["added_tokens"].push_back(added_token(8, "<tool>", false));
    EXPECT_EQ(from(file).decode(std::vector<TokenId>{7, 8, 2}), "<tool>ab");
}

TEST(JsonTokenizer, NamesAStepThatIsNotSupportedAndThoseThatAre) {
    const auto with = [](const char* key, const char* type) {
        json file = small_byte_level();
        file[key] = {{"type", type}};
        return refusal(file);
    };
    EXPECT_THAT(with("normalizer", "Precompiled"),
                AllOf(HasSubstr("tokenizer.json"), HasSubstr("normalizer 'Precompiled'"),
                      HasSubstr("NFKC")));
    EXPECT_THAT(with("pre_tokenizer", "BertPreTokenizer"),
                AllOf(HasSubstr("pre_tokenizer 'BertPreTokenizer'"), HasSubstr("Metaspace")));
    EXPECT_THAT(with("post_processor", "BertProcessing"), HasSubstr("TemplateProcessing"));
    EXPECT_THAT(with("decoder", "WordPiece"),
                AllOf(HasSubstr("decoder 'WordPiece'"), HasSubstr("ByteFallback")));

    json file = small_byte_level();
    file["model"]["type"] = "Unigram";
    EXPECT_THAT(refusal(file), AllOf(HasSubstr("'Unigram'"), HasSubstr("BPE")));
    file["model"]["type"] = "BPE";
    file["model"]["end_of_word_suffix"] = "</w>";
    EXPECT_THAT(refusal(file), HasSubstr("end_of_word_suffix"));
}

TEST(JsonTokenizer, RefusesPatternsItDoesNotUnderstand) {
    json file = small_byte_level();
    const json bytes = file["pre_tokenizer"];
    const auto with = [&](const json& split) {
        file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}};
        return file;
    };
    const json split = {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Isolated"}};
    EXPECT_THAT(from(with(split)).encode("ab", false), ElementsAre(0, 1));
    json bad = split;
    bad["pattern"] = {{"Regex", "("}};
    EXPECT_THAT(refusal(with(bad)), HasSubstr("'('"));
    bad = split;
    bad["behavior"] = "Sometimes";
    EXPECT_THAT(refusal(with(bad)), HasSubstr("'Sometimes'"));
    bad = split;
    bad["pattern"] = 5;
    EXPECT_THAT(refusal(with(bad)), HasSubstr("tokenizer.json"));
}

TEST(JsonTokenizer, RefusesMergesOfTokensThatAreNotThere) {
    json file = small_byte_level();
    file["model"]["merges"] = {"a x"};
    EXPECT_THAT(refusal(file), AllOf(HasSubstr("merge of 'a' and 'x'"), HasSubstr("token 'x'")));
    file["model"]["merges"] = {"b a"};
    EXPECT_THAT(refusal(file), HasSubstr("token 'ba'"));
    for (const json& merge : {json("ab"), json("a b c"), json(" "), json(""), json("a "),
                              json(" b"), json(5), json{"a"}, json{"a", "b", "c"}}) {
        file["model"]["merges"] = json::array({merge});
        EXPECT_THAT(refusal(file), HasSubstr("tokenizer.json")) << merge;
    }
}

TEST(JsonTokenizer, RefusesIdsThatNoVocabularyOfItsSizeHas) {
    for (const json& id :
         {json(-1), json(2147483647), json(2147483648u), json(1u << 31),
          json(18446744073709551615u), json(9000), json(1.5), json("0"), json(nullptr)}) {
        json file = small_byte_level();
        file["model"]["vocab"]["x"] = id;
        EXPECT_THAT(refusal(file), HasSubstr("token 'x'")) << id;
        file = small_byte_level();
        file["added_tokens"].push_back(added_token(0, "<x>"));
        file["added_tokens"][1]["id"] = id;
        EXPECT_THAT(refusal(file), HasSubstr("token '<x>'")) << id;
    }
}

TEST(JsonTokenizer, LivesWithHolesAndDoubles) {
    json file = small_byte_level();
    file["model"]["vocab"]["far"] = 900;                      // 8..899 are nothing
    file["model"]["vocab"]["c"] = 0;                          // like "a"
    file["added_tokens"].push_back(added_token(9, "<end>"));  // like 7
    file["model"]["merges"] = {"a b", "a b", "Ġ ab"};
    const Tokenizer t = from(file);
    EXPECT_EQ(t.vocabulary_size(), 901);
    EXPECT_EQ(t.token(500), "");
    EXPECT_FALSE(t.is_special(500));
    EXPECT_EQ(t.decode(std::vector<TokenId>{2, 500, 899, 4}), "ab ab");
    EXPECT_THAT(t.encode("ab<end>", false), ElementsAre(2, 9));
}

TEST(JsonTokenizer, IgnoresIdsThatAreNoTokensWhenDecoding) {
    const Tokenizer t = from(small_byte_level());
    EXPECT_EQ(t.decode(std::vector<TokenId>{-1, 2, 8, 2147483647, 2}), "abab");
    EXPECT_FALSE(t.is_special(-1));
    EXPECT_FALSE(t.is_special(8));
    EXPECT_THROW(t.token(8), Error);
    EXPECT_THROW(t.token(-1), Error);
}

TEST(JsonTokenizer, RefusesTemplatesWithIdsThatAreNoTokens) {
    json file = small_sentencepiece();
    for (const json& id : {json(-1), json(8), json(1ull << 40), json("1")}) {
        file["post_processor"]["special_tokens"]["<s>"]["ids"] = json::array({id});
        EXPECT_THAT(refusal(file), HasSubstr("post-processor's '<s>'")) << id;
    }
}

TEST(JsonTokenizer, RefusesWhatWouldGrowWithoutBound) {
    json file = small_sentencepiece();
    file["normalizer"] = {{"type", "Prepend"}, {"prepend", std::string(10'000, 'a')}};
    EXPECT_THAT(refusal(file), HasSubstr("longer than"));
    file["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", "a"}};
    EXPECT_THAT(refusal(file), HasSubstr("nothing"));
    json step = {{"type", "NFC"}};
    for (int i = 0; i < 12; ++i)
        step = {{"type", "Sequence"}, {"normalizers", json::array({step})}};
    file["normalizer"] = step;
    EXPECT_THAT(refusal(file), HasSubstr("nested"));
    file["normalizer"] = {{"type", "Sequence"}, {"normalizers", json(1000, json{{"type", "NFC"}})}};
    EXPECT_THAT(refusal(file), HasSubstr("more than"));
}

TEST(JsonTokenizer, RefusesFilesThatAreSomethingElse) {
    for (const char* text :
         {"", "{", "null", "[]", "5", "{}", R"({"model": null})", R"({"model": {"type": "BPE"}})",
          R"({"model": {"vocab": [], "merges": []}})", R"({"model": {"vocab": {}, "merges": 5}})",
          R"({"added_tokens": {}, "model": {"vocab": {}, "merges": []}})",
          R"({"added_tokens": [5], "model": {"vocab": {}, "merges": []}})",
          R"({"decoder": [], "model": {"vocab": {}, "merges": []}})"})
        EXPECT_THAT(usage_message([&] { Tokenizer::from_json(text, "tokenizer.json"); }),
                    HasSubstr("tokenizer.json"))
            << text;
}

TEST(JsonTokenizer, TakesAnEmptyVocabulary) {
    const Tokenizer t =
        Tokenizer::from_json(R"({"model": {"vocab": {}, "merges": []}})", "tokenizer.json");
    EXPECT_EQ(t.vocabulary_size(), 0);
    EXPECT_TRUE(t.encode("abc", true).empty());
    EXPECT_EQ(t.decode(std::vector<TokenId>{0}), "");
}

TEST(JsonTokenizer, TakesInvalidBytesForReplacementCharacters) {
    json file = small_sentencepiece();
    file["model"]["vocab"]["\uFFFD"] = 8;
    EXPECT_THAT(from(file).encode("a\xFF\xC3", false), ElementsAre(6, 8, 8));
}

}  // namespace
}  // namespace cake
