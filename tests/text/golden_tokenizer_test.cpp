// Every tokenizer we know, against what the model's own gives.
#include <random>

#include <gmock/gmock.h>

#include "text/chat.h"
#include "text/tokenizer_files.h"
#include "text/utf8.h"

namespace cake {
namespace {

using test::json;
using Ids = std::vector<TokenId>;

enum class Form { Gguf, Json, PrependJson, GgufFromJson };

struct Source {
    const char* name;    // of the test
    const char* folder;  // of tokenizer.json; null: SmolLM2's GGUF
    const char* golden;
    const char* chat;
    Form form;
};

// Null where the files are not on this machine.
std::unique_ptr<Tokenizer> load(const Source& source) {
    const auto make = [](Tokenizer&& t) { return std::make_unique<Tokenizer>(std::move(t)); };
    if (!source.folder) {
        const auto path = test::smollm2_gguf();
        if (!path)
            return nullptr;
        const GgufFile gguf(*path);
        if (source.form == Form::Gguf)
            return make(Tokenizer::from_gguf(gguf));
        return make(Tokenizer::from_json(test::smollm2_json(gguf).dump(), "smollm2"));
    }
    const auto folder = test::tokenizer_folder(source.folder);
    if (!folder)
        return nullptr;
    if (source.form == Form::Json)
        return make(Tokenizer::from_folder(*folder));

    const TempFolder temporary;
    json file = read_json_file(*folder + "/tokenizer.json");
    const json golden = test::golden_tokenizer(source.golden);
    if (source.form == Form::PrependJson) {
        file["normalizer"] = golden["normalizer"];
        file["pre_tokenizer"] = golden["pre_tokenizer"];
        temporary.write("tokenizer.json", file.dump());
        temporary.write("tokenizer_config.json", R"({"eos_token": "</s>"})");
        return make(Tokenizer::from_folder(temporary.path()));
    }
    test::write_gguf(file, golden, temporary.file("vocabulary.gguf"));
    return make(Tokenizer::from_gguf(GgufFile(temporary.file("vocabulary.gguf"))));
}

class GoldenTokenizer : public testing::TestWithParam<Source> {
protected:
    void SetUp() override {
        golden_ = test::golden_tokenizer(GetParam().golden);
        tokenizer_ = load(GetParam());
        if (!tokenizer_)
            GTEST_SKIP() << "no tokenizer: "
                         << (GetParam().folder ? test::how_to_get_tokenizers
                                               : "run launch/get_model.sh, or set CAKE_TEST_MODEL");
    }
    // The cases of one list, none where the file has no such list.
    json cases(const char* list) const { return golden_.value(list, json::array()); }

    json golden_;
    std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(GoldenTokenizer, EncodesEveryText) {
    std::size_t n = 0;
    for (const char* list : {"cases", "extra_cases"}) {
        for (const json& c : cases(list)) {
            ++n;
            const auto text = c["text"].get<std::string>();
            EXPECT_EQ(tokenizer_->encode(text, false), c["ids"].get<Ids>()) << c;
            if (c.contains("ids_special"))
                EXPECT_EQ(tokenizer_->encode(text, true), c["ids_special"].get<Ids>()) << c;
            else
                EXPECT_EQ(tokenizer_->encode(text, true), tokenizer_->encode(text, false));
        }
    }
    EXPECT_GE(n, 262u);
    // Characters that Unicode has only lately: libraries of different age differ.
    for (const json& c : cases("unicode_version_cases"))
        EXPECT_THAT(tokenizer_->encode(c["text"].get<std::string>(), false),
                    testing::AnyOf(c["ids_unicode14"].get<Ids>(), c["ids_unicode16"].get<Ids>()));
}

TEST_P(GoldenTokenizer, DecodesEveryText) {
    for (const char* list : {"cases", "extra_cases"})
        for (const json& c : cases(list))
            EXPECT_EQ(tokenizer_->decode(c["ids"].get<Ids>(), false),
                      c.value("decoded", c["text"].get<std::string>()))
                << c;
    for (const json& c : cases("decode_cases"))
        EXPECT_EQ(tokenizer_->decode(c["ids"].get<Ids>(), false), c["decoded"]) << c;
    for (const json& c : cases("decode_skip_cases"))
        EXPECT_EQ(tokenizer_->decode(c["ids"].get<Ids>(), true), c["decoded"]) << c;
}

TEST_P(GoldenTokenizer, WritesChatsAsTheModelSawThem) {
    EXPECT_EQ(cases("chat").size(), 3u);
    for (const json& c : cases("chat")) {
        std::vector<ChatMessage> messages;
        for (const json& m : c["messages"])
            messages.push_back({m["role"], m["content"]});
        const std::string text =
            apply_chat_template(GetParam().chat, messages, c["add_generation_prompt"], *tokenizer_);
        EXPECT_EQ(text, c["text"]);
        EXPECT_EQ(tokenizer_->encode(text, false), c["ids"].get<Ids>());
    }
}

TEST_P(GoldenTokenizer, KnowsItsSpecialTokens) {
    EXPECT_EQ(tokenizer_->adds_bos(), golden_["adds_bos"]);
    if (golden_.contains("bos_id")) {
        EXPECT_EQ(tokenizer_->bos(), golden_["bos_id"].get<TokenId>());
    }
    for (const json& token : golden_["added_tokens"]) {
        const auto id = token["id"].get<TokenId>();
        EXPECT_EQ(tokenizer_->id_of(token["content"].get<std::string>()), id);
        EXPECT_EQ(tokenizer_->token(id), token["content"]);
        EXPECT_EQ(tokenizer_->is_special(id), token["special"]);
    }
    EXPECT_LE(tokenizer_->vocabulary_size(), golden_["vocab_size"].get<int>());
}

// Pieces must be whole characters, and give the text when joined.
void expect_streams(const Tokenizer& tokenizer, const Ids& ids, bool skip_special) {
    StreamDecoder stream(tokenizer, skip_special);
    std::string joined;
    for (const TokenId id : ids) {
        const std::string piece = stream.next(id);
        EXPECT_TRUE(is_utf8(piece)) << testing::PrintToString(ids);
        joined += piece;
    }
    joined += stream.finish();
    EXPECT_TRUE(is_utf8(joined));
    EXPECT_EQ(joined, tokenizer.decode(ids, skip_special));
}

TEST_P(GoldenTokenizer, StreamsWholeCharacters) {
    for (const char* list : {"cases", "extra_cases", "decode_cases", "decode_skip_cases"}) {
        for (const json& c : cases(list)) {
            expect_streams(*tokenizer_, c["ids"].get<Ids>(), false);
            expect_streams(*tokenizer_, c["ids"].get<Ids>(), true);
        }
    }
    std::mt19937 random(7);
    // Half of the ids from the front, where the tokens for single bytes are.
    const int n = tokenizer_->vocabulary_size(), front = std::min(n, 1100);
    for (int i = 0; i < 2000; ++i) {
        Ids ids(random() % 12);
        for (TokenId& id : ids)
            id = TokenId(random() % unsigned(random() % 2 ? front : n));
        expect_streams(*tokenizer_, ids, i % 2);
    }
}

TEST_P(GoldenTokenizer, GivesRandomTextsBack) {
    std::mt19937 random(11);
    const std::vector<std::string> parts = {"a",  "b",      " ", "Z", "09",      "\n", "\t",
                                            "'s", ".",      "-", "é", "e\u0301", "你", "\u3000",
                                            "😀",  "\u200d", "ſ", "ก", "<|",      "[I"};
    for (int i = 0; i < 500; ++i) {
        std::string text;
        for (unsigned k = random() % 40; k > 0; --k)
            text += parts[random() % parts.size()];
        const Ids ids = tokenizer_->encode(text, false);
        const std::string back = tokenizer_->decode(ids, false);
        if (tokenizer_->kind().starts_with("SentencePiece")) {
            EXPECT_TRUE(back == text || " " + back == text);  // one leading space may go
        } else {
            // NFC may change the text, but only once.
            EXPECT_EQ(tokenizer_->encode(back, false), ids) << text;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(
    , GoldenTokenizer,
    testing::Values(Source{"Smollm2Gguf", nullptr, "smollm2", "smollm2", Form::Gguf},
                    Source{"Smollm2Json", nullptr, "smollm2", "smollm2", Form::Json},
                    Source{"Qwen2Json", "qwen2", "qwen2", "qwen2", Form::Json},
                    Source{"Qwen2Gguf", "qwen2", "qwen2", "qwen2", Form::GgufFromJson},
                    Source{"Llama3Json", "llama3", "llama3", "llama3", Form::Json},
                    Source{"Llama3Gguf", "llama3", "llama3", "llama3", Form::GgufFromJson},
                    Source{"Mistral3Json", "mistral3", "mistral3", "mistral", Form::Json},
                    Source{"Mistral3Gguf", "mistral3", "mistral3", "mistral", Form::GgufFromJson},
                    Source{"Llama2Json", "mistral3", "mistral3_prepend", "mistral",
                           Form::PrependJson}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace cake
