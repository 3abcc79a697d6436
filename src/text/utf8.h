// UTF-8: reading characters, and mending bytes that are none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace cake {

inline constexpr std::string_view replacement_character = "\xEF\xBF\xBD";  // U+FFFD

// What begins at `at` of some bytes.
struct Utf8Unit {
    std::size_t bytes =
        0;  // 1 to 4; of broken bytes the longest prefix of a character (at least 1)
    std::int32_t code = -1;  // code point, or -1: not a character
    bool cut_short = false;  // the bytes end within what may still become a character
};

// `at` < bytes.size().
Utf8Unit utf8_unit(std::string_view bytes, std::size_t at);

// Every maximal broken part becomes one U+FFFD, as Rust's String::from_utf8_lossy (thus the models' own
// tokenizers) and the Unicode standard (3.9, "substitution of maximal subparts") do it.
std::string mend_utf8(std::string_view bytes);
bool is_utf8(std::string_view bytes);

// Takes from the front of `bytes` all but a character that is still incomplete, mended.
std::string take_whole_characters(std::string& bytes);

}  // namespace cake
