#include "cli/prompt.h"

#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <unistd.h>

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "io/file_error.h"
#include "io/gguf.h"
#include "io/json_file.h"

namespace cake {
namespace {

std::string read_all(std::istream& in) { return {std::istreambuf_iterator<char>(in), {}}; }

std::string known_templates() { return fmt::format("{}", fmt::join(chat_template_names(), ", ")); }

ChatMessage read_message(const nlohmann::json& entry, const std::string& path, std::size_t at) {
    if (!entry.is_object())
        throw usage_error(
            R"({}: entry {} is no message, as in {{"role": "user", "content": "Hi"}})", path, at);
    for (const auto& [key, value] : entry.items())
        if (key != "role" && key != "content")
            throw usage_error("{}: entry {} has the key {}; a message has role and content", path,
                              at, quote(key));
    for (const char* key : {"role", "content"})
        if (!entry.contains(key) || !entry[key].is_string())
            throw usage_error("{}: entry {} has no {} that is a text", path, at, key);
    const ChatMessage message{entry["role"], entry["content"]};
    if (message.role != "system" && message.role != "user" && message.role != "assistant")
        throw usage_error("{}: entry {} has the role {}; there are system, user, assistant", path,
                          at, quote(message.role));
    return message;
}

}  // namespace

std::string read_text_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in)
        throw usage_error("{}: cannot be opened; is the path right?", path);
    std::string text = read_all(in);
    if (in.bad() || (text.empty() && !in.eof()))
        throw usage_error("{}: cannot be read; is it a text file?", path);
    return text;
}

std::vector<ChatMessage> read_messages(const std::string& path) {
    const nlohmann::json list = read_json_file(path);
    if (!list.is_array() || list.empty())
        throw usage_error(
            R"({}: holds no list of messages, as in [{{"role": "user", "content": "Hi"}}])", path);
    std::vector<ChatMessage> messages;
    for (const auto& entry : list)
        messages.push_back(read_message(entry, path, messages.size()));
    if (messages.back().role != "user")
        throw usage_error("{}: entry {}, the last, has the role {}; the model answers a user's",
                          path, messages.size() - 1, messages.back().role);
    return messages;
}

void check_vocabulary(const Tokenizer& tokenizer, int rows, const std::string& model_path) {
    if (tokenizer.vocabulary_size() > rows)
        throw usage_error(
            "{}: the tokenizer has {} tokens and the model {} rows of embedding; it is the "
            "tokenizer of another model. Put the model's own beside it, or give --prompt-tokens",
            model_path, tokenizer.vocabulary_size(), rows);
}

Tokenizer load_tokenizer(const std::string& path) {
    if (std::filesystem::is_directory(path))
        return Tokenizer::from_folder(path);
    return Tokenizer::from_gguf(GgufFile(path));
}

std::optional<Tokenizer> tokenizer_or_none(const std::string& path) try {
    return load_tokenizer(path);
} catch (const Error& error) {
    spdlog::warn("no tokenizer, so answers are ids: {}", error.what());
    return {};
}

// A model whose own template is not known would get a prompt that it was
// not trained on, so that is said.
std::string chosen_template(const RunConfig& config, const Tokenizer& tokenizer) {
    if (config.chat != "auto")
        return config.chat;
    const std::string found = detect_chat_template(tokenizer);
    if (found == "none" && !tokenizer.chat_template().empty())
        spdlog::warn(
            "the model's chat template is not one that cake knows, and is left out: pass --chat "
            "NAME ({}), or --chat none",
            known_templates());
    return found;
}

std::vector<TokenId> encode_prompt(const std::string& chat, const std::string& text,
                                   const Tokenizer& tokenizer) {
    if (chat == "none")
        return tokenizer.encode(text, true);
    const std::vector<ChatMessage> messages{{"user", text}};
    return tokenizer.encode(apply_chat_template(chat, messages, true, tokenizer), false);
}

PromptOptions::PromptOptions(CLI::App& app) {
    text_option_ = app.add_option("--prompt", text_, "the prompt itself")->type_name("TEXT");
    CLI::Option* file = app.add_option("--prompt-file", file_, "a text file that holds the prompt")
                            ->type_name("FILE");
    CLI::Option* ids =
        app.add_option("--prompt-tokens", tokens_, "a JSON list of token ids, taken as it is");
    CLI::Option* messages =
        app.add_option("--messages", messages_,
                       "a JSON list of the turns so far, {\"role\": ..., \"content\": ...}");
    ids->type_name("FILE")->excludes(text_option_)->excludes(file)->excludes(messages);
    messages->type_name("FILE")->excludes(text_option_)->excludes(file);
    file->excludes(text_option_);
}

std::vector<TokenId> PromptOptions::read_ids(int vocabulary) const {
    const nlohmann::json list = read_json_file(tokens_);
    if (!list.is_array())
        throw usage_error("{}: holds no list of token ids, as in [1, 2, 3]", tokens_);
    std::vector<TokenId> ids;
    for (const auto& id : list) {
        if (!id.is_number_integer() || id.get<std::int64_t>() < 0 ||
            id.get<std::int64_t>() >= vocabulary)
            throw usage_error("{}: entry {} is {}, not a token id from 0 to {}", tokens_,
                              ids.size(), id.dump(), vocabulary - 1);
        ids.push_back(id.get<TokenId>());
    }
    return ids;
}

std::string PromptOptions::read_source() const {
    if (text_option_->count() > 0)
        return text_;
    if (!file_.empty())
        return read_text_file(file_);
    if (isatty(STDIN_FILENO))
        throw usage_error(
            "a prompt is missing: give --prompt TEXT, --prompt-file FILE, --messages FILE, or text "
            "on standard input");
    return read_all(std::cin);
}

std::vector<TokenId> PromptOptions::read_text(const RunConfig& config, const Tokenizer& tokenizer,
                                              int vocabulary) const {
    check_vocabulary(tokenizer, vocabulary, config.model.path);
    const std::string chat = chosen_template(config, tokenizer);
    if (messages_.empty())
        return encode_prompt(chat, read_source(), tokenizer);
    const std::vector<ChatMessage> messages = read_messages(messages_);
    if (chat == "none")
        throw usage_error(
            "{}: messages need a chat template, and there is none: pass --chat NAME ({})",
            messages_, known_templates());
    try {
        return tokenizer.encode(apply_chat_template(chat, messages, true, tokenizer), false);
    } catch (const Error& error) {  // turns in an order that this template has no place for
        throw usage_error("{}: {}", messages_, error.what());
    }
}

}  // namespace cake
