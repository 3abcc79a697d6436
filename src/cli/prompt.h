// Where `generate` takes its prompt from.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/dtype.h"
#include "config/run_config.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace cake {

// Usage errors name the file.
std::string read_text_file(const std::string& path);

// The tokenizer that comes with a model: in its folder, or in its GGUF file.
Tokenizer load_tokenizer(const std::string& model_path);

// Nothing, after a warning, where it cannot be read: prompts of ids need none, and answers are ids then.
std::optional<Tokenizer> tokenizer_or_none(const std::string& model_path);

// Usage error where the tokenizer has ids that the model's embedding has no row for: it is another model's.
void check_vocabulary(const Tokenizer& tokenizer, int rows, const std::string& model_path);

// The turns of a conversation, a JSON list of {"role": ..., "content": ...}. Usage errors name file and entry.
std::vector<ChatMessage> read_messages(const std::string& path);

// The chat template that the configuration names ("auto": the model's), or "none".
std::string chosen_template(const RunConfig& config, const Tokenizer& tokenizer);

// The ids of a user's text through the template; "none": of the text as it is.
std::vector<TokenId> encode_prompt(const std::string& chat, const std::string& text,
                                   const Tokenizer& tokenizer);

class PromptOptions {
public:
    // Adds --prompt, --prompt-file, --messages and --prompt-tokens to `app`.
    explicit PromptOptions(CLI::App& app);
    PromptOptions(const PromptOptions&) = delete;
    PromptOptions& operator=(const PromptOptions&) = delete;

    bool is_text() const { return tokens_.empty(); }  // needs a tokenizer
    // A list of ids, as it is.
    std::vector<TokenId> read_ids(int vocabulary) const;
    // The ids of a text or of messages, through the chat template that the configuration names ("auto": the model's).
    // Standard input where no option was given. `vocabulary`: rows of the model's embedding. Usage errors name the
    // source and what to do.
    std::vector<TokenId> read_text(const RunConfig& config, const Tokenizer& tokenizer,
                                   int vocabulary) const;

private:
    std::string read_source() const;

    std::string text_, file_, messages_, tokens_;
    CLI::Option* text_option_;
};

}  // namespace cake
