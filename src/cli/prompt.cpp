#include "cli/prompt.h"

#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <unistd.h>

#include "base/error.h"
#include "io/gguf.h"
#include "io/json_file.h"
#include "text/chat.h"

namespace cake {
namespace {

std::string read_all(std::istream& in) { return {std::istreambuf_iterator<char>(in), {}}; }

std::string read_text_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in)
        throw usage_error("{}: cannot be opened; is the path right?", path);
    std::string text = read_all(in);
    if (in.bad() || (text.empty() && !in.eof()))
        throw usage_error("{}: cannot be read; is it a text file?", path);
    return text;
}

}  // namespace

Tokenizer load_tokenizer(const std::string& path) {
    if (std::filesystem::is_directory(path))
        return Tokenizer::from_folder(path);
    return Tokenizer::from_gguf(GgufFile(path));
}

PromptOptions::PromptOptions(CLI::App& app) {
    text_option_ = app.add_option("--prompt", text_, "the prompt itself")->type_name("TEXT");
    CLI::Option* file = app.add_option("--prompt-file", file_, "a text file that holds the prompt")
                            ->type_name("FILE");
    CLI::Option* ids =
        app.add_option("--prompt-tokens", tokens_, "a JSON list of token ids, taken as it is");
    ids->type_name("FILE")->excludes(text_option_)->excludes(file);
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

std::vector<TokenId> PromptOptions::read_text(const RunConfig& config,
                                              const Tokenizer& tokenizer) const {
    if (text_option_->count() == 0 && file_.empty() && isatty(STDIN_FILENO))
        throw usage_error(
            "a prompt is missing: give --prompt TEXT, --prompt-file FILE, or text on standard "
            "input");
    const std::string text = text_option_->count() > 0 ? text_
                             : !file_.empty()          ? read_text_file(file_)
                                                       : read_all(std::cin);
    const std::string chat = config.chat == "auto" ? detect_chat_template(tokenizer) : config.chat;
    if (chat == "none")
        return tokenizer.encode(text, true);
    const ChatMessage message{"user", text};
    return tokenizer.encode(apply_chat_template(chat, std::span(&message, 1), true, tokenizer),
                            false);
}

}  // namespace cake
