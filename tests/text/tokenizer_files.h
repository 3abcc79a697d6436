// Where tests find tokenizers: small ones written here, real ones where they are on this machine.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "io/gguf.h"
#include "io/json_file.h"
#include "support/gguf_writer.h"
#include "support/temp_folder.h"
#include "text/bpe_model.h"
#include "text/normalise.h"
#include "text/tokenizer.h"

namespace cake::test {

using nlohmann::json;

// What Hugging Face's tokenizers make of many strings; tests/golden/README.md says how it was made.
inline json golden_tokenizer(const std::string& name) {
    return read_json_file(std::string(CAKE_SOURCE_DIR) + "/tests/golden/tokenizers/" + name +
                          ".json");
}

inline std::filesystem::path models_folder() {
    if (const char* folder = std::getenv("CAKE_MODELS"))
        return folder;
    const char* home = std::getenv("HOME");
    return std::filesystem::path(home ? home : ".") / ".cache/cake/models";
}

inline constexpr const char* how_to_get_tokenizers =
    "run launch/get_tokenizers.sh, or set CAKE_TEST_TOKENIZERS to a folder with "
    "NAME/tokenizer.json";

// The folder of a family's tokenizer.json: llama3, mistral3, qwen2.
inline std::optional<std::string> tokenizer_folder(const std::string& name) {
    std::vector<std::filesystem::path> places;
    if (const char* folder = std::getenv("CAKE_TEST_TOKENIZERS"))
        places.emplace_back(folder);
    places.push_back(std::filesystem::path(CAKE_SOURCE_DIR) / "../shared/golden/tokenizers");
    places.push_back(models_folder() / "tokenizers");
    for (const auto& place : places)
        if (std::filesystem::exists(place / name / "tokenizer.json"))
            return (place / name).string();
    return std::nullopt;
}

inline std::optional<std::string> smollm2_gguf() {
    const char* given = std::getenv("CAKE_TEST_MODEL");
    const std::string path =
        given ? given : (models_folder() / "SmolLM2-135M-Instruct.Q4_1.gguf").string();
    return std::filesystem::exists(path) ? std::optional(path) : std::nullopt;
}

// A tokenizer.json as Hugging Face's is for the same model, from the metadata of a GGUF file.
inline json smollm2_json(const GgufFile& gguf) {
    json vocabulary = json::object(), added = json::array();
    const auto& tokens = *gguf.strings("tokenizer.ggml.tokens");
    const auto& types = *gguf.integers("tokenizer.ggml.token_type");
    for (std::size_t id = 0; id < tokens.size(); ++id) {
        vocabulary[tokens[id]] = id;
        if (types[id] == 3)
            added.push_back({{"id", id},
                             {"content", tokens[id]},
                             {"single_word", false},
                             {"lstrip", false},
                             {"rstrip", false},
                             {"normalized", false},
                             {"special", true}});
    }
    const json golden = golden_tokenizer("smollm2");
    return {{"version", "1.0"},
            {"added_tokens", added},
            {"normalizer", nullptr},
            {"pre_tokenizer", golden["pre_tokenizer"]},
            {"post_processor", nullptr},
            {"decoder", golden["decoder"]},
            {"model",
             {{"type", "BPE"},
              {"dropout", nullptr},
              {"unk_token", nullptr},
              {"continuing_subword_prefix", ""},
              {"end_of_word_suffix", ""},
              {"fuse_unk", false},
              {"vocab", vocabulary},
              {"merges", *gguf.strings("tokenizer.ggml.merges")}}}};
}

// The tokenizer.json `file` as GGUF's converter writes it.
inline void write_gguf(const json& file, const json& golden, const std::string& path) {
    const json& model = file["model"];
    const bool is_llama = golden.value("gguf_model", "gpt2") == "llama";
    std::vector<std::string> tokens(model["vocab"].size() + file["added_tokens"].size());
    std::vector<std::int32_t> types(tokens.size(), 1);
    std::size_t n_tokens = 0;
    const auto set = [&](const std::string& text, std::size_t id, std::int32_t type) {
        tokens.at(id) = text;
        types[id] = type;
        n_tokens = std::max(n_tokens, id + 1);
    };
    for (const auto& [text, id] : model["vocab"].items())
        set(text, id, is_llama && text.starts_with("<0x") ? 6 : 1);
    for (const json& token : file["added_tokens"])
        set(token["content"], token["id"], token["special"] == true ? 3 : 4);
    tokens.resize(n_tokens);
    types.resize(n_tokens);

    GgufWriter out;
    out.string("tokenizer.ggml.model", is_llama ? "llama" : "gpt2");
    out.string("tokenizer.ggml.pre", golden["gguf_pre"].get<std::string>());
    out.strings("tokenizer.ggml.tokens", tokens);
    out.integers("tokenizer.ggml.token_type", types);
    if (is_llama) {
        // SentencePiece numbers its pieces by score. Runs of spaces were added later, with this one.
        std::vector<float> scores;
        for (std::size_t id = 0; id < tokens.size(); ++id)
            scores.push_back(replace_all(tokens[id], metaspace_mark, "").empty() ? -1e9f
                                                                                 : -float(id));
        out.numbers("tokenizer.ggml.scores", scores);
        out.integer("tokenizer.ggml.unknown_token_id", 0);
    } else {
        out.strings("tokenizer.ggml.merges", model["merges"].get<std::vector<std::string>>());
    }
    for (const char* key : {"bos", "eos"})
        if (golden.contains(std::string(key) + "_id"))
            out.integer(std::string("tokenizer.ggml.") + key + "_token_id",
                        golden[std::string(key) + "_id"]);
    const float weight = 0;
    out.tensor("output_norm.weight", Shape{1}, {&weight, 1});
    out.write(path);
}

}  // namespace cake::test
