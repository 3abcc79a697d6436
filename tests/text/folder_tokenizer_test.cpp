// The files beside tokenizer.json.
#include <gmock/gmock.h>

#include "support/expect_error.h"
#include "support/temp_folder.h"
#include "text/small_tokenizers.h"
#include "text/tokenizer.h"

namespace cake {
namespace {

using test::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// The small tokenizer with files beside it.
class Folder {
public:
    explicit Folder(json tokenizer = test::small_sentencepiece()) {
        folder_.write("tokenizer.json", tokenizer.dump());
    }
    Folder& with(const char* name, const json& content) {
        folder_.write(name, content.dump());
        return *this;
    }
    Folder& with_text(const char* name, const char* text) {
        folder_.write(name, text);
        return *this;
    }
    Tokenizer load() const { return Tokenizer::from_folder(folder_.path()); }

private:
    TempFolder folder_;
};

TEST(FolderTokenizer, NeedsNoOtherFile) {
    const Tokenizer t = Folder().load();
    EXPECT_EQ(t.bos(), 1);
    EXPECT_THAT(t.end_of_sequence(), IsEmpty());
    EXPECT_EQ(t.chat_template(), "");
}

TEST(FolderTokenizer, SaysWhereItLookedForTheTokenizer) {
    const TempFolder empty;
    EXPECT_THAT(usage_message([&] { Tokenizer::from_folder(empty.path()); }),
                AllOf(HasSubstr(empty.path()), HasSubstr("tokenizer.json")));
}

TEST(FolderTokenizer, ReadsSpecialTokensInBothForms) {
    EXPECT_THAT(
        Folder().with("tokenizer_config.json", {{"eos_token", "a"}}).load().end_of_sequence(),
        ElementsAre(5));
    EXPECT_THAT(Folder()
                    .with("tokenizer_config.json", {{"eos_token", {{"content", "a"}}}})
                    .load()
                    .end_of_sequence(),
                ElementsAre(5));
    EXPECT_EQ(Folder().with("tokenizer_config.json", {{"bos_token", nullptr}}).load().bos(),
              std::nullopt);
}

TEST(FolderTokenizer, GathersEveryEndOfSequence) {
    const auto ends = [](const json& generation) {
        return Folder()
            .with("tokenizer_config.json", {{"eos_token", "a"}})
            .with("generation_config.json", generation)
            .load()
            .end_of_sequence();
    };
    EXPECT_THAT(ends({{"eos_token_id", 4}}), ElementsAre(5, 4));
    EXPECT_THAT(ends({{"eos_token_id", {4, 5, 6}}}), ElementsAre(5, 4, 6));
    EXPECT_THAT(ends({{"eos_token_id", {-1, 99, 1e10, "a", nullptr}}}), ElementsAre(5));
    // config.json is asked only where generation_config.json is absent.
    EXPECT_THAT(Folder().with("config.json", {{"eos_token_id", 4}}).load().end_of_sequence(),
                ElementsAre(4));
}

TEST(FolderTokenizer, LetsLlamasClassOverruleThePostProcessor) {
    const json no_bos = {{"bos_token", "<s>"}, {"add_bos_token", false}};
    EXPECT_THAT(Folder().with("tokenizer_config.json", no_bos).load().encode("a", true),
                ElementsAre(1, 6));
    json llama = no_bos;
    llama["tokenizer_class"] = "LlamaTokenizerFast";
    llama["eos_token"] = "▁";
    EXPECT_THAT(Folder().with("tokenizer_config.json", llama).load().encode("a", true),
                ElementsAre(6));
    llama["add_bos_token"] = llama["add_eos_token"] = true;
    EXPECT_THAT(Folder().with("tokenizer_config.json", llama).load().encode("a", true),
                ElementsAre(1, 6, 4));
}

TEST(FolderTokenizer, FindsTheChatTemplateWhereverItIs) {
    EXPECT_EQ(
        Folder().with("tokenizer_config.json", {{"chat_template", "x"}}).load().chat_template(),
        "x");
    const json several = {{{"name", "tool_use"}, {"template", "y"}},
                          {{"name", "default"}, {"template", "z"}}};
    EXPECT_EQ(
        Folder().with("tokenizer_config.json", {{"chat_template", several}}).load().chat_template(),
        "z");
    EXPECT_EQ(Folder().with_text("chat_template.jinja", "w").load().chat_template(), "w");
}

TEST(FolderTokenizer, NamesAFileThatIsNotUnderstood) {
    for (const char* text : {"[", "[]", R"({"eos_token": 5})", R"({"chat_template": [5]})"})
        EXPECT_THAT(
            usage_message([&] { Folder().with_text("tokenizer_config.json", text).load(); }),
            HasSubstr("tokenizer_config.json"))
            << text;
}

}  // namespace
}  // namespace cake
