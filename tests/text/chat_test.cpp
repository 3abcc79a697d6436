#include "text/chat.h"

#include <gmock/gmock.h>

#include "support/expect_error.h"
#include "support/temp_folder.h"
#include "text/small_tokenizers.h"

namespace cake {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Messages = std::vector<ChatMessage>;

// The small SentencePiece tokenizer with a chat template of its own; BOS is <s>, the end "a".
Tokenizer tokenizer_with(const std::string& jinja) {
    const TempFolder folder;
    folder.write("tokenizer.json", test::small_sentencepiece().dump());
    const nlohmann::json config = {
        {"bos_token", "<s>"}, {"eos_token", "a"}, {"chat_template", jinja}};
    folder.write("tokenizer_config.json", config.dump());
    return Tokenizer::from_folder(folder.path());
}

std::string applied(const std::string& name, const Messages& messages, bool prompt = true,
                    const std::string& jinja = "") {
    return apply_chat_template(name, messages, prompt, tokenizer_with(jinja));
}

const Messages conversation = {
    {"system", "S"}, {"user", " q1 "}, {"assistant", " a1 "}, {"user", "q2"}};

TEST(Chat, WritesChatml) {
    EXPECT_EQ(applied("chatml", conversation),
              "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n q1 <|im_end|>\n"
              "<|im_start|>assistant\n a1 <|im_end|>\n<|im_start|>user\nq2<|im_end|>\n"
              "<|im_start|>assistant\n");
    EXPECT_EQ(applied("chatml", {{"user", "q"}}, false), "<|im_start|>user\nq<|im_end|>\n");
}

TEST(Chat, WritesLlama2) {
    EXPECT_EQ(applied("llama2", conversation),
              "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\n q1 [/INST] a1 a<s>[INST] q2 [/INST]");
    EXPECT_EQ(applied("llama2", {{"user", " q "}}), "<s>[INST] q [/INST]");
}

TEST(Chat, WritesLlama3) {
    EXPECT_EQ(applied("llama3", conversation, false),
              "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
              "<|start_header_id|>user<|end_header_id|>\n\nq1<|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\na1<|eot_id|>"
              "<|start_header_id|>user<|end_header_id|>\n\nq2<|eot_id|>");
}

TEST(Chat, WritesMistral) {
    // No [INST] token here: the older form. The golden tests have the newer.
    EXPECT_EQ(applied("mistral", conversation),
              "<s>[INST]  q1  [/INST]  a1 a[INST] S\n\nq2 [/INST]");
}

TEST(Chat, AddsTheDefaultSystemMessageOfTheModelsOwnTemplate) {
    const Messages question = {{"user", "q"}};
    EXPECT_THAT(applied("qwen2", question),
                HasSubstr("system\nYou are Qwen, created by Alibaba Cloud."));
    EXPECT_THAT(applied("smollm2", question), HasSubstr("named SmolLM"));
    // Qwen2's differs from Qwen2.5's; Jinja may write the line break either way.
    for (const char* line_break : {"\n", "\\n"}) {
        const std::string jinja = std::string("{{ '<|im_start|>system") + line_break +
                                  "' + m }}{{ '<|im_start|>system" + line_break +
                                  "You are a helpful assistant.<|im_end|>" + line_break + "' }}";
        EXPECT_THAT(
            applied("qwen2", question, true, jinja),
            HasSubstr(
                "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user"));
    }
    EXPECT_EQ(applied("qwen2", {{"system", "S"}}, false), "<|im_start|>system\nS<|im_end|>\n");
}

TEST(Chat, TellsTheTemplateByTheModelsOwn) {
    const auto detected = [](const char* jinja) {
        return detect_chat_template(tokenizer_with(jinja));
    };
    EXPECT_EQ(detected(""), "none");
    EXPECT_EQ(detected("{{ messages }}"), "none");
    EXPECT_EQ(detected("'<|start_header_id|>' + role"), "llama3");
    EXPECT_EQ(detected("'<|im_start|>' + role"), "chatml");
    EXPECT_EQ(detected("'<|im_start|>system\nYou are a helpful assistant<|im_end|>'"), "qwen2");
    EXPECT_EQ(detected("'<|im_start|>system\nI am SmolLM<|im_end|>'"), "smollm2");
    EXPECT_EQ(detected("'[INST] <<SYS>>' + x"), "llama2");
    EXPECT_EQ(detected("'[INST] ' + x"), "mistral");
}

TEST(Chat, RefusesWhatATemplateCannotSay) {
    EXPECT_THAT(
        usage_message([] { applied("alpaca", conversation); }),
        AllOf(HasSubstr("'alpaca'"), HasSubstr("llama2, llama3, mistral, chatml, qwen2, smollm2")));
    EXPECT_THAT(usage_message([] { applied("chatml", {{"tool", "x"}}); }), HasSubstr("'tool'"));
    for (const char* name : {"llama2", "mistral"}) {
        EXPECT_THAT(usage_message([&] {
                        applied(name, {{"user", "q"}, {"system", "S"}});
                    }),
                    HasSubstr("first"));
        EXPECT_THAT(usage_message([&] { applied(name, {{"system", "S"}}); }), HasSubstr("user"));
    }
}

TEST(Chat, TakesAnEmptyConversation) {
    for (const std::string& name : chat_template_names())
        EXPECT_NO_THROW(applied(name, {})) << name;
}

}  // namespace
}  // namespace cake
