// Tokenizers of a few tokens, for tests that change one thing in them.
#pragma once

#include <nlohmann/json.hpp>

#include "text/byte_level.h"

namespace cake::test {

using nlohmann::json;

inline json added_token(int id, const char* text, bool special = true) {
    return {{"id", id}, {"content", text}, {"special", special}, {"normalized", false}};
}

// Every byte is a token; 256 to 258 are ChatML's.
inline json byte_tokenizer() {
    json vocabulary, added = json::array();
    for (int byte = 0; byte < 256; ++byte) {
        const char c = char(byte);
        vocabulary[spell_bytes({&c, 1})] = byte;
    }
    for (const char* text : {"<|im_start|>", "<|im_end|>", "<s>"})
        added.push_back({{"id", 256 + added.size()},
                         {"content", text},
                         {"special", true},
                         {"normalized", false}});
    return {{"added_tokens", added},
            {"normalizer", nullptr},
            {"pre_tokenizer",
             {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
            {"decoder", {{"type", "ByteLevel"}}},
            {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", json::array()}}}};
}

// Byte-level: "a" "b" "ab" " " (as "Ġ") "Ġab" and both halves of "é"; 7 is <end>.
inline json small_byte_level() {
    return {{"added_tokens", {added_token(7, "<end>")}},
            {"normalizer", nullptr},
            {"pre_tokenizer",
             {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
            {"decoder", {{"type", "ByteLevel"}}},
            {"model",
             {{"type", "BPE"},
              {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}, {"Ġ", 3}, {"Ġab", 4}, {"Ã", 5}, {"©", 6}}},
              {"merges", {"a b", "Ġ ab"}}}}};
}

// SentencePiece's kind, with the bytes of "é"; 0 is <unk>, 1 <s>.
inline json small_sentencepiece() {
    const json replace = {{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}};
    return {{"added_tokens", {added_token(0, "<unk>"), added_token(1, "<s>")}},
            {"pre_tokenizer",
             {{"type", "Metaspace"},
              {"replacement", "▁"},
              {"prepend_scheme", "first"},
              {"split", false}}},
            {"post_processor",
             {{"type", "TemplateProcessing"},
              {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}},
              {"special_tokens", {{"<s>", {{"ids", {1}}}}}}}},
            {"decoder",
             {{"type", "Sequence"},
              {"decoders",
               {replace,
                {{"type", "ByteFallback"}},
                {{"type", "Fuse"}},
                {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}},
            {"model",
             {{"type", "BPE"},
              {"unk_token", "<unk>"},
              {"fuse_unk", true},
              {"byte_fallback", true},
              {"vocab",
               {{"<unk>", 0},
                {"<s>", 1},
                {"<0xC3>", 2},
                {"<0xA9>", 3},
                {"▁", 4},
                {"a", 5},
                {"▁a", 6},
                {"<0x0A>", 7}}},
              {"merges", json::array({json::array({"▁", "a"})})}}}};
}

}  // namespace cake::test
