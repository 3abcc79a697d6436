// Where prompts come from: conversations in JSON, the model's tokenizer, what is refused about them.
#include "cli/prompt.h"

#include <filesystem>

#include <gmock/gmock.h>

#include "io/json_file.h"
#include "support/expect_error.h"
#include "support/golden.h"
#include "support/run_program.h"
#include "support/temp_folder.h"
#include "text/small_tokenizers.h"

namespace cake::test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Messages : public testing::Test {
protected:
    TempFolder folder;
    Tokenizer tokenizer = Tokenizer::from_json(byte_tokenizer().dump(), "tokenizer.json");

    std::vector<TokenId> ids(const std::string& chat, std::vector<std::string> arguments) {
        CLI::App app;
        PromptOptions prompt(app);
        std::ranges::reverse(arguments);  // as CLI11 takes a vector
        app.parse(arguments);
        EXPECT_TRUE(prompt.is_text());
        RunConfig config;
        config.chat = chat;
        return prompt.read_text(config, tokenizer, 512);
    }
    std::string complaint(const std::string& text, const std::string& chat = "chatml") {
        const std::string path = folder.write("m.json", text);
        const std::string message = usage_message([&] { ids(chat, {"--messages", path}); });
        EXPECT_THAT(message, HasSubstr("m.json"));
        return message;
    }
    // A model of 512 rows with this tokenizer beside it.
    std::string model(const json& tokenizer_config = json::object()) {
        for (const char* file : {"config.json", "model.safetensors"})
            std::filesystem::copy_file(golden_model("tiny-llama") + "/" + file, folder.file(file),
                                       std::filesystem::copy_options::overwrite_existing);
        folder.write("tokenizer.json", byte_tokenizer().dump());
        folder.write("tokenizer_config.json", tokenizer_config.dump());
        return folder.path();
    }
};

constexpr const char* conversation = R"([{"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello.\n"},
    {"role": "user", "content": "Été?"}])";

TEST_F(Messages, GoThroughTheChatTemplateTurnByTurn) {
    const std::string path = folder.write("m.json", conversation);
    const std::string text =
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello.\n<|im_end|>\n<|im_start|>user\nÉté?<|im_end|>\n"
        "<|im_start|>assistant\n";
    EXPECT_EQ(ids("chatml", {"--messages", path}), tokenizer.encode(text, false));
    EXPECT_EQ(ids("chatml", {"--messages", path}), ids("none", {"--prompt", text}));
    const std::string one = folder.write("one.json", R"([{"role": "user", "content": "Hi"}])");
    EXPECT_EQ(ids("chatml", {"--messages", one}), ids("chatml", {"--prompt", "Hi"}));
}

TEST_F(Messages, AreRefusedByFileAndEntry) {
    EXPECT_THAT(complaint("{}"), HasSubstr("holds no list of messages"));
    EXPECT_THAT(complaint("[]"), HasSubstr("holds no list of messages"));
    EXPECT_THAT(complaint("[{]"), HasSubstr("m.json:1:"));
    EXPECT_THAT(complaint(R"([{"role": "user", "content": "a"}, "b"])"),
                HasSubstr("entry 1 is no message"));
    EXPECT_THAT(complaint(R"([{"role": "user"}])"), HasSubstr("entry 0 has no content"));
    EXPECT_THAT(complaint(R"([{"role": "user", "content": ["a"]}])"),
                HasSubstr("entry 0 has no content that is a text"));
    EXPECT_THAT(complaint(R"([{"role": "user", "content": "a", "name": "b"}])"),
                HasSubstr("entry 0 has the key 'name'"));
    EXPECT_THAT(complaint(R"([{"role": "tool", "content": "a"}])"),
                AllOf(HasSubstr("entry 0 has the role 'tool'"), HasSubstr("assistant")));
    EXPECT_THAT(complaint(R"([{"role": "user", "content": "a"},
                              {"role": "assistant", "content": "b"}])"),
                HasSubstr("entry 1, the last, has the role assistant"));
}

TEST_F(Messages, NeedATemplateThatHasAPlaceForThem) {
    EXPECT_THAT(complaint(conversation, "none"),
                AllOf(HasSubstr("need a chat template"), HasSubstr("llama3, mistral")));
    EXPECT_THAT(complaint(conversation, "auto"), HasSubstr("need a chat template"));
    EXPECT_THAT(complaint(R"([{"role": "user", "content": "a"}, {"role": "system", "content": "b"},
                              {"role": "user", "content": "c"}])",
                          "llama2"),
                HasSubstr("a system message must be the first"));
}

TEST_F(Messages, ExcludeTheOtherPrompts) {
    for (const char* other : {"--prompt", "--prompt-file", "--prompt-tokens"})
        EXPECT_THROW(ids("chatml", {"--messages", "m.json", other, "x"}), CLI::ExcludesError);
}

TEST_F(Messages, GenerateAnswersThem) {
    const std::string path = folder.write("m.json", conversation), report = folder.file("r.json");
    const auto run = [&](std::vector<std::string> prompt) {
        std::vector<std::string> args{"generate",         "--model", model(),    "--policy", "full",
                                      "--max-new-tokens", "3",       "--report", report};
        args.insert(args.end(), prompt.begin(), prompt.end());
        return run_program(args);
    };
    const auto r = run({"--messages", path, "--chat", "chatml"});
    ASSERT_EQ(r.exit_code, 0) << r.err;
    const auto request = read_json_file(report)["requests"][0];
    EXPECT_EQ(request["prompt_tokens"], ids("chatml", {"--messages", path}).size());
    folder.write("m.json", "[3]");
    const auto wrong = run({"--messages", path, "--chat", "chatml"});
    EXPECT_EQ(wrong.exit_code, 2);
    EXPECT_THAT(wrong.err, HasSubstr("m.json: entry 0 is no message"));
}

TEST_F(Messages, AChatTemplateThatIsNotKnownIsLeftOutWithAWarning) {
    const std::string path = model({{"chat_template", "{{ '<turn>' + messages[0].content }}"}});
    const auto run = [&](const std::string& chat) {
        return run_program({"generate", "--model", path, "--policy", "full", "--max-new-tokens",
                            "1", "--prompt", "Hi", "--chat", chat});
    };
    const auto r = run("auto");
    EXPECT_EQ(r.exit_code, 0) << r.err;
    const std::string warning = "chat template is not one that cake knows";
    const std::size_t first = r.err.find(warning);
    ASSERT_NE(first, std::string::npos) << r.err;
    EXPECT_EQ(r.err.find(warning, first + 1), std::string::npos);
    EXPECT_THAT(r.err, HasSubstr("--chat NAME"));
    EXPECT_THAT(run("none").err, Not(HasSubstr(warning)));
    EXPECT_THAT(run("chatml").err, Not(HasSubstr(warning)));
}

TEST_F(Messages, ATokenizerOfAnotherModelIsRefused) {
    check_vocabulary(tokenizer, 259, "m");
    EXPECT_THAT(usage_message([&] { check_vocabulary(tokenizer, 258, "m"); }),
                AllOf(HasSubstr("m: the tokenizer has 259 tokens"), HasSubstr("258 rows")));

    const std::string path = model();
    json big = byte_tokenizer();
    big["added_tokens"].push_back(
        {{"id", 599}, {"content", "<x>"}, {"special", true}, {"normalized", false}});
    folder.write("tokenizer.json", big.dump());
    const auto r = run_program({"generate", "--model", path, "--prompt", "Hi"});
    EXPECT_EQ(r.exit_code, 2);
    EXPECT_THAT(r.err, AllOf(HasSubstr("the tokenizer has 600 tokens and the model 512 rows"),
                             HasSubstr("--prompt-tokens")));
}

TEST_F(Messages, APromptBeyondASlidingWindowIsRefused) {
    const std::string mistral = golden_model("tiny-mistral");
    json config = read_json_file(mistral + "/config.json");
    config["sliding_window"] = 128;
    folder.write("config.json", config.dump());
    std::filesystem::copy(mistral + "/model.safetensors", folder.file("model.safetensors"));
    const auto run = [&](int n, const char* new_tokens) {
        const std::string prompt = folder.write("p.json", json(std::vector<int>(n, 7)).dump());
        return run_program({"generate", "--model", folder.path(), "--policy", "full",
                            "--prompt-tokens", prompt, "--max-new-tokens", new_tokens});
    };
    const auto beyond = run(300, "8");
    EXPECT_EQ(beyond.exit_code, 2);
    EXPECT_THAT(beyond.err, AllOf(HasSubstr("prompt and answer have 308 tokens"),
                                  HasSubstr("beyond 128"), HasSubstr("sliding window")));
    EXPECT_EQ(run(121, "8").exit_code, 2);
    EXPECT_EQ(run(120, "8").exit_code, 0);
}

TEST_F(Messages, AWeightThatIsNotANumberIsNamed) {
    const std::string path = model();
    std::fstream file(folder.file("model.safetensors"),
                      std::ios::in | std::ios::out | std::ios::binary);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    file.seekp(-4, std::ios::end);
    file.write(reinterpret_cast<const char*>(&nan), sizeof(nan));
    file.close();
    const auto r = run_program({"generate", "--model", path, "--prompt", "Hi"});
    EXPECT_EQ(r.exit_code, 2);
    EXPECT_THAT(r.err, AllOf(HasSubstr("model.safetensors: weight 'model.norm.weight'"),
                             HasSubstr("not a number at element 127")));
}

}  // namespace
}  // namespace cake::test
