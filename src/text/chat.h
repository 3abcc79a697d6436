// Chat templates: messages to the text a model was trained on.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace cake {

struct ChatMessage {
    std::string role;  // system, user, assistant
    std::string content;
};

// Names of the templates that are known: llama2, llama3, mistral, chatml, qwen2, smollm2.
const std::vector<std::string>& chat_template_names();

// Which template a model uses: told by its own template text and its special tokens; "none" for a base model.
std::string detect_chat_template(const Tokenizer& tokenizer);

// The text of a conversation, ready for the assistant's answer (`add_generation_prompt`). Encode it without
// adding BOS where the text begins with it. Usage errors: unknown name, unknown role.
std::string apply_chat_template(const std::string& name, std::span<const ChatMessage> messages,
                                bool add_generation_prompt, const Tokenizer& tokenizer);

}  // namespace cake
