// tokenizer.json, the format of Hugging Face's tokenizers library:
//
//   model           {"type": "BPE", "vocab": {text: id}, "merges": ["a b"] or [["a", "b"]], "unk_token", "byte_fallback", ...}
//   added_tokens    [{"id", "content", "special", "normalized", "lstrip", "rstrip", "single_word"}]
//   normalizer, pre_tokenizer, post_processor, decoder    null or {"type": ...}; "Sequence" holds several
#include <algorithm>
#include <limits>

#include "base/error.h"
#include "io/file_error.h"
#include "io/json_file.h"
#include "text/json_pipeline.h"
#include "text/tokenizer_spec.h"

namespace cake {

namespace {

using nlohmann::json;

TokenId token_id(const json& value, const std::string& token, const std::string& name) {
    constexpr std::int64_t largest = std::numeric_limits<TokenId>::max();
    const bool fits = value.is_number_unsigned()
                          ? value.get<std::uint64_t>() <= std::uint64_t(largest)
                          : value.is_number_integer() && value.get<std::int64_t>() >= 0;
    if (!fits)
        throw usage_error("{}: token {} has the id {}", name, quote(token), quote(value.dump()));
    return TokenId(value.get<std::int64_t>());
}

void read_vocabulary(const json& file, const json& model, const std::string& name,
                     TokenizerSpec& spec) {
    const json& tokens = model.at("vocab");
    const json none = json::array();
    const json& added = file.contains("added_tokens") && !file["added_tokens"].is_null()
                            ? file["added_tokens"]
                            : none;
    if (!tokens.is_object() || !added.is_array())
        throw usage_error("{}: model.vocab is no object or added_tokens no array", name);

    spec.vocabulary = Vocabulary(tokens.size() + added.size(), name);
    for (const auto& [text, id] : tokens.items())
        spec.vocabulary.add(token_id(id, text, name), text);
    for (const json& entry : added) {
        AddedToken token;
        token.text = entry.at("content").get<std::string>();
        token.id = token_id(entry.at("id"), token.text, name);
        token.special = entry.value("special", false);
        token.normalized = entry.value("normalized", !token.special);
        token.takes_left = entry.value("lstrip", false);
        token.takes_right = entry.value("rstrip", false);
        token.single_word = entry.value("single_word", false);
        spec.vocabulary.add(token.id, token.text);
        spec.added.push_back(std::move(token));
    }
}

void read_merges(const json& model, const std::string& name, TokenizerSpec& spec) {
    const json& merges = model.at("merges");
    spec.merges.reserve(merges.size());
    for (const json& merge : merges) {
        if (merge.is_string())
            add_merge(spec, merge.get_ref<const std::string&>(), name);
        else if (merge.is_array() && merge.size() == 2)
            add_merge(spec, merge[0].get<std::string>(), merge[1].get<std::string>(), name);
        else
            throw usage_error("{}: the merge {} is not two tokens", name, quote(merge.dump()));
    }
}

bool is_set(const json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && !found->is_null() && *found != "" && *found != 0;
}

void read_model(const json& file, const std::string& name, TokenizerSpec& spec) {
    const json& model = file.at("model");
    // Files of old versions name no type.
    const std::string type = model.value("type", model.contains("merges") ? "BPE" : "");
    if (type != "BPE")
        throw usage_error("{}: the model's type is {}; supported is BPE", name, quote(type));
    for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"})
        if (is_set(model, key))
            throw usage_error("{}: model.{} is not supported", name, key);

    read_vocabulary(file, model, name, spec);
    read_merges(model, name, spec);
    spec.bpe.byte_fallback = model.value("byte_fallback", false);
    spec.bpe.ignore_merges = model.value("ignore_merges", false);
    spec.bpe.fuse_unknown = model.value("fuse_unk", false);
    if (is_set(model, "unk_token")) {
        const auto unknown = model["unk_token"].get<std::string>();
        spec.bpe.unknown = spec.vocabulary.id_of(unknown);
        if (!spec.bpe.unknown)
            throw usage_error("{}: the vocabulary lacks the unknown token {}", name,
                              quote(unknown));
    }
}

}  // namespace

TokenizerSpec tokenizer_from_json(std::string_view text, const std::string& name) {
    try {
        const json file = parse_json(text, name);
        TokenizerSpec spec;
        read_model(file, name, spec);
        read_pipeline(file, name, spec);
        spec.kind = spec.bpe.byte_level      ? "byte-level BPE"
                    : spec.bpe.byte_fallback ? "SentencePiece BPE"
                                             : "BPE";
        return spec;
    } catch (const json::exception& e) {
        throw usage_error("{}: not a tokenizer.json that is understood: {}", name, e.what());
    }
}

}  // namespace cake
