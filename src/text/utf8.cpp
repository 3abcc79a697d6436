#include "text/utf8.h"

namespace cake {

Utf8Unit utf8_unit(std::string_view bytes, std::size_t at) {
    const auto byte = [&](std::size_t i) { return std::uint8_t(bytes[at + i]); };
    const std::uint8_t lead = byte(0);
    if (lead < 0x80)
        return {1, lead, false};

    std::size_t length = 0;
    // The second byte's range excludes overlong forms, surrogates and what lies beyond U+10FFFF.
    std::uint8_t low = 0x80, high = 0xBF;
    if (lead >= 0xC2 && lead <= 0xDF) {
        length = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        length = 3;
        if (lead == 0xE0)
            low = 0xA0;
        if (lead == 0xED)
            high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        length = 4;
        if (lead == 0xF0)
            low = 0x90;
        if (lead == 0xF4)
            high = 0x8F;
    } else {
        return {1, -1, false};
    }

    std::int32_t code = lead & (0xFF >> (length + 1));
    for (std::size_t i = 1; i < length; ++i) {
        if (at + i == bytes.size())
            return {i, -1, true};
        if (byte(i) < low || byte(i) > high)
            return {i, -1, false};
        code = code << 6 | (byte(i) & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    return {length, code, false};
}

namespace {

// Length of the front of `bytes` that is UTF-8.
std::size_t utf8_prefix(std::string_view bytes) {
    std::size_t at = 0;
    while (at < bytes.size()) {
        const Utf8Unit unit = utf8_unit(bytes, at);
        if (unit.code < 0)
            break;
        at += unit.bytes;
    }
    return at;
}

}  // namespace

bool is_utf8(std::string_view bytes) { return utf8_prefix(bytes) == bytes.size(); }

std::string mend_utf8(std::string_view bytes) {
    std::string out;
    out.reserve(bytes.size());
    for (std::size_t at = 0; at < bytes.size();) {
        const std::size_t good = utf8_prefix(bytes.substr(at));
        out += bytes.substr(at, good);
        at += good;
        if (at == bytes.size())
            break;
        out += replacement_character;
        at += utf8_unit(bytes, at).bytes;
    }
    return out;
}

std::string take_whole_characters(std::string& bytes) {
    // An unfinished character is at most three bytes long and begins with a lead byte.
    std::size_t whole = bytes.size();
    for (std::size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
        const std::size_t at = bytes.size() - back;
        if (utf8_unit(bytes, at).cut_short)
            whole = at;
    }
    std::string out = mend_utf8(std::string_view(bytes).substr(0, whole));
    bytes.erase(0, whole);
    return out;
}

}  // namespace cake
