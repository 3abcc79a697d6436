// GPT-2's way to spell bytes as printable characters: 0x20 is "Ġ" (U+0120), 0x0A is "Ċ", letters are themselves.
// Vocabularies of byte-level tokenizers are written with it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cake {

// Each byte as its character.
std::string spell_bytes(std::string_view bytes);

// The bytes that a token's characters stand for; nothing if any of them stands for none.
std::optional<std::string> unspell_bytes(std::string_view token);

}  // namespace cake
