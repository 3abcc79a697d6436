#include "text/chat.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "io/file_error.h"

namespace cake {

namespace {

using Messages = std::span<const ChatMessage>;

std::string trimmed(const std::string& text) {
    constexpr const char* spaces = " \t\n\r\f\v";  // Python's str.strip, of what occurs in prompts
    const std::size_t first = text.find_first_not_of(spaces);
    return first == std::string::npos
               ? ""
               : text.substr(first, text.find_last_not_of(spaces) - first + 1);
}

std::string bos_text(const Tokenizer& tokenizer) {
    return tokenizer.bos() ? tokenizer.token(*tokenizer.bos()) : "";
}

std::string end_text(const Tokenizer& tokenizer) {
    const auto& ends = tokenizer.end_of_sequence();
    return ends.empty() ? "" : tokenizer.token(ends.front());
}

void check_roles(Messages messages) {
    for (const ChatMessage& m : messages)
        if (m.role != "system" && m.role != "user" && m.role != "assistant")
            throw usage_error("a chat message has the role {}; there are system, user, assistant",
                              quote(m.role));
}

// Templates without turns for the system put its text into a user's message.
void check_system_is_first(const std::string& name, Messages messages) {
    for (std::size_t i = 1; i < messages.size(); ++i)
        if (messages[i].role == "system")
            throw usage_error("chat template {}: a system message must be the first message", name);
    if (!messages.empty() && messages[0].role == "system" &&
        std::ranges::none_of(messages, [](const ChatMessage& m) { return m.role == "user"; }))
        throw usage_error("chat template {}: a system message needs a user message after it", name);
}

// The default system text that a model's own template holds: '<|im_start|>system\nTEXT<|im_end|>' written out.
std::string default_system(const Tokenizer& tokenizer) {
    const std::string& jinja = tokenizer.chat_template();
    const std::string start = "<|im_start|>system", end = "<|im_end|>";
    for (std::size_t at = jinja.find(start); at != std::string::npos;
         at = jinja.find(start, at + 1)) {
        std::size_t text = at + start.size();
        // In Jinja's string literals a line break is written as itself or as \n.
        if (jinja.compare(text, 1, "\n") == 0)
            text += 1;
        else if (jinja.compare(text, 2, "\\n") == 0)
            text += 2;
        else
            continue;
        const std::size_t stop = jinja.find_first_of("'\"{}\\\n<", text);
        if (stop != std::string::npos && stop > text && jinja.compare(stop, end.size(), end) == 0)
            return jinja.substr(text, stop - text);
    }
    return {};
}

std::string chatml(Messages messages, bool prompt, const std::string& system) {
    std::string out;
    if (!system.empty() && !messages.empty() && messages[0].role != "system")
        out += fmt::format("<|im_start|>system\n{}<|im_end|>\n", system);
    for (const ChatMessage& m : messages)
        out += fmt::format("<|im_start|>{}\n{}<|im_end|>\n", m.role, m.content);
    if (prompt)
        out += "<|im_start|>assistant\n";
    return out;
}

std::string apply_chatml(Messages messages, bool prompt, const Tokenizer&) {
    return chatml(messages, prompt, "");
}

std::string apply_qwen2(Messages messages, bool prompt, const Tokenizer& tokenizer) {
    const std::string own = default_system(tokenizer);  // Qwen2's differs from Qwen2.5's
    return chatml(
        messages, prompt,
        own.empty() ? "You are Qwen, created by Alibaba Cloud. You are a helpful assistant." : own);
}

std::string apply_smollm2(Messages messages, bool prompt, const Tokenizer& tokenizer) {
    const std::string own = default_system(tokenizer);
    return chatml(
        messages, prompt,
        own.empty() ? "You are a helpful AI assistant named SmolLM, trained by Hugging Face" : own);
}

// Without the hub's preamble ("Cutting Knowledge Date: ..."), as Meta's own code has it, but trimmed as the hub does.
std::string apply_llama3(Messages messages, bool prompt, const Tokenizer& tokenizer) {
    std::string out = bos_text(tokenizer);
    const auto header = [](std::string_view role) {
        return fmt::format("<|start_header_id|>{}<|end_header_id|>\n\n", role);
    };
    for (const ChatMessage& m : messages)
        out += header(m.role) + trimmed(m.content) + "<|eot_id|>";
    if (prompt)
        out += header("assistant");
    return out;
}

std::string apply_llama2(Messages messages, bool, const Tokenizer& tokenizer) {
    check_system_is_first("llama2", messages);
    std::string out, system;
    for (const ChatMessage& m : messages) {
        if (m.role == "system") {
            system = fmt::format("<<SYS>>\n{}\n<</SYS>>\n\n", m.content);
        } else if (m.role == "user") {
            const std::string content = trimmed(std::exchange(system, {}) + m.content);
            out += fmt::format("{}[INST] {} [/INST]", bos_text(tokenizer), content);
        } else {
            out += fmt::format(" {} {}", trimmed(m.content), end_text(tokenizer));
        }
    }
    return out;
}

std::string apply_mistral(Messages messages, bool, const Tokenizer& tokenizer) {
    check_system_is_first("mistral", messages);
    // Where [INST] is a token it ends the message; the models before (v0.1, v0.2) spell it, with a space before.
    const std::string close = tokenizer.id_of("[/INST]") ? "[/INST]" : " [/INST]";
    std::size_t last_user = messages.size();
    for (std::size_t i = 0; i < messages.size(); ++i)
        if (messages[i].role == "user")
            last_user = i;

    std::string out = bos_text(tokenizer), system;
    for (std::size_t i = 0; i < messages.size(); ++i) {
        const ChatMessage& m = messages[i];
        if (m.role == "system")
            system = m.content + "\n\n";  // goes with the latest question, not with the first
        else if (m.role == "user")
            out += fmt::format("[INST] {}{}{}", i == last_user ? system : "", m.content, close);
        else
            out += fmt::format(" {}{}", m.content, end_text(tokenizer));
    }
    return out;
}

struct TemplateRow {
    std::string name;
    std::string (*apply)(Messages, bool, const Tokenizer&);
};

const std::vector<TemplateRow>& templates() {
    static const std::vector<TemplateRow> rows = {
        {"llama2", apply_llama2}, {"llama3", apply_llama3}, {"mistral", apply_mistral},
        {"chatml", apply_chatml}, {"qwen2", apply_qwen2},   {"smollm2", apply_smollm2},
    };
    return rows;
}

}  // namespace

const std::vector<std::string>& chat_template_names() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> out;
        for (const TemplateRow& row : templates())
            out.push_back(row.name);
        return out;
    }();
    return names;
}

std::string detect_chat_template(const Tokenizer& tokenizer) {
    const std::string& jinja = tokenizer.chat_template();
    const auto has = [&](const char* text) { return jinja.find(text) != std::string::npos; };
    if (has("<|start_header_id|>"))
        return "llama3";
    if (has("<|im_start|>")) {
        const std::string system = default_system(tokenizer);
        if (system.empty())
            return "chatml";
        return system.find("SmolLM") != std::string::npos ? "smollm2" : "qwen2";
    }
    if (has("<<SYS>>"))
        return "llama2";
    if (has("[INST]"))
        return "mistral";
    return "none";
}

std::string apply_chat_template(const std::string& name, Messages messages,
                                bool add_generation_prompt, const Tokenizer& tokenizer) {
    check_roles(messages);
    for (const TemplateRow& row : templates())
        if (row.name == name)
            return row.apply(messages, add_generation_prompt, tokenizer);
    std::string known;
    for (const TemplateRow& row : templates())
        known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
    throw usage_error("there is no chat template {}; there are {}", quote(name), known);
}

}  // namespace cake
