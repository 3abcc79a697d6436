// A tokenizer without merges, for tiny models.
#pragma once

#include <nlohmann/json.hpp>

#include "text/byte_level.h"

namespace cake::test {

// tokenizer.json: every byte is a token; 256 to 258 are ChatML's.
inline nlohmann::json byte_tokenizer() {
    using nlohmann::json;
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

}  // namespace cake::test
