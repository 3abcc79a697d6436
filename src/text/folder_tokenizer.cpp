// The tokenizer of a Hugging Face folder: tokenizer.json, and what the files beside it say of special tokens.
#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "io/json_file.h"
#include "io/mapped_file.h"
#include "text/tokenizer_spec.h"

namespace cake {

namespace {

using nlohmann::json;

std::string read_text(const std::string& path) {
    const MappedFile file(path);
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

// The file's object, or null where there is no file.
json optional_json(const std::filesystem::path& path) {
    if (!std::filesystem::exists(path))
        return nullptr;
    json object = read_json_file(path.string());
    if (!object.is_object())
        throw usage_error("{}: not a JSON object", path.string());
    return object;
}

// A special token is named by its text, or by an object with it.
std::optional<TokenId> named_token(const json& config, const char* key,
                                   const Vocabulary& vocabulary) {
    const json& value = config.at(key);
    const json& text = value.is_object() ? value.at("content") : value;
    return text.is_null() ? std::nullopt : vocabulary.id_of(text.get<std::string>());
}

// "eos_token_id": one or several.
void add_ends(const json& config, TokenizerSpec& spec) {
    if (!config.is_object() || !config.contains("eos_token_id"))
        return;
    const json& ids = config["eos_token_id"];
    for (const json& id : ids.is_array() ? ids : json::array({ids}))
        if (id.is_number_integer() && id >= 0 && id < spec.vocabulary.size())
            add_end(spec, id.get<TokenId>());
}

std::string chat_template(const json& config) {
    if (!config.is_object() || !config.contains("chat_template"))
        return {};
    const json& text = config["chat_template"];
    if (text.is_string())
        return text.get<std::string>();
    if (!text.is_array())
        return {};
    for (const json& entry : text)
        if (entry.value("name", "") == "default")
            return entry.value("template", "");
    return {};
}

// Llama's tokenizer class ignores what tokenizer.json's post-processor says of BOS and EOS.
void follow_llama_class(const json& config, std::optional<TokenId> eos, TokenizerSpec& spec) {
    if (!config.value("tokenizer_class", "").starts_with("Llama"))
        return;
    const auto set = [](std::vector<TokenId>& ids, bool wanted, std::optional<TokenId> id) {
        ids.clear();
        if (wanted && id)
            ids = {*id};
    };
    if (config.contains("add_bos_token"))
        set(spec.in_front, config.value("add_bos_token", true), spec.bos);
    if (config.contains("add_eos_token"))
        set(spec.behind, config.value("add_eos_token", false), eos);
}

void read_companions(const std::filesystem::path& folder, TokenizerSpec& spec) {
    const json tokenizer = optional_json(folder / "tokenizer_config.json");
    const json generation = optional_json(folder / "generation_config.json");
    const json model = optional_json(folder / "config.json");

    std::optional<TokenId> eos;
    if (tokenizer.is_object()) {
        // "bos_token": null says that there is none, whatever config.json says.
        if (tokenizer.contains("bos_token"))
            spec.bos = named_token(tokenizer, "bos_token", spec.vocabulary);
        if (tokenizer.contains("eos_token"))
            eos = named_token(tokenizer, "eos_token", spec.vocabulary);
        follow_llama_class(tokenizer, eos, spec);
    } else if (model.is_object() && !spec.bos) {
        const json id = model.value("bos_token_id", json());
        if (id.is_number_integer() && id >= 0 && id < spec.vocabulary.size())
            spec.bos = id.get<TokenId>();
    }

    if (eos)
        add_end(spec, *eos);
    add_ends(generation, spec);
    if (!generation.is_object()) {
        add_ends(model, spec);
        add_known_ends(spec);
    }

    spec.chat_template = chat_template(tokenizer);
    const auto jinja = folder / "chat_template.jinja";
    if (spec.chat_template.empty() && std::filesystem::exists(jinja))
        spec.chat_template = read_text(jinja.string());
}

}  // namespace

TokenizerSpec tokenizer_from_folder(const std::string& folder) {
    const std::filesystem::path path(folder);
    const std::string file = (path / "tokenizer.json").string();
    if (!std::filesystem::exists(file))
        throw usage_error(
            "{}: no tokenizer.json there; Hugging Face's transformers write one with "
            "save_pretrained()",
            folder);
    TokenizerSpec spec = tokenizer_from_json(read_text(file), file);
    try {
        read_companions(path, spec);
    } catch (const json::exception& e) {
        throw usage_error(
            "{}: tokenizer_config.json, generation_config.json or config.json is not understood: "
            "{}",
            folder, e.what());
    }
    return spec;
}

}  // namespace cake
