#include "text/byte_level.h"

#include <array>

#include "text/utf8.h"

namespace cake {

namespace {

// Latin-1's printable characters stand for themselves; the 68 other bytes follow in order from U+0100
// (bytes_to_unicode() of openai/gpt-2, src/encoder.py).
constexpr int first_substitute = 0x100;
constexpr int n_substitutes = 68;

constexpr bool stands_for_itself(int byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Tables {
    std::array<std::uint16_t, 256> code_of{};
    std::array<std::uint8_t, n_substitutes> byte_of{};
};

constexpr Tables spelling = [] {
    Tables tables;
    int next = 0;
    for (int byte = 0; byte < 256; ++byte) {
        if (stands_for_itself(byte)) {
            tables.code_of[std::size_t(byte)] = std::uint16_t(byte);
        } else {
            tables.byte_of[std::size_t(next)] = std::uint8_t(byte);
            tables.code_of[std::size_t(byte)] = std::uint16_t(first_substitute + next++);
        }
    }
    return tables;
}();

}  // namespace

std::string spell_bytes(std::string_view bytes) {
    std::string out;
    out.reserve(2 * bytes.size());
    for (const char c : bytes) {
        const int code = spelling.code_of[std::uint8_t(c)];
        if (code < 0x80) {
            out += char(code);
        } else {
            out += char(0xC0 | code >> 6);
            out += char(0x80 | (code & 0x3F));
        }
    }
    return out;
}

std::optional<std::string> unspell_bytes(std::string_view token) {
    std::string out;
    out.reserve(token.size());
    for (std::size_t at = 0; at < token.size();) {
        const Utf8Unit unit = utf8_unit(token, at);
        at += unit.bytes;
        const int code = unit.code;
        if (code >= first_substitute && code < first_substitute + n_substitutes)
            out += char(spelling.byte_of[std::size_t(code - first_substitute)]);
        else if (code >= 0 && code < 256 && stands_for_itself(code))
            out += char(code);
        else
            return std::nullopt;
    }
    return out;
}

}  // namespace cake
