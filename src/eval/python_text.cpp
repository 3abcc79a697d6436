#include "eval/python_text.h"

#include <utf8proc.h>

#include "text/utf8.h"

namespace cake {
namespace {

utf8proc_category_t category(char32_t c) { return utf8proc_category(utf8proc_int32_t(c)); }

bool is_cased(char32_t c) {
    const auto kind = category(c);
    return kind == UTF8PROC_CATEGORY_LU || kind == UTF8PROC_CATEGORY_LL ||
           kind == UTF8PROC_CATEGORY_LT;
}

// Unicode's Case_Ignorable: marks, modifiers, formats, and punctuation that stands within words.
bool is_passed_over(char32_t c) {
    switch (category(c)) {
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_ME:
        case UTF8PROC_CATEGORY_CF:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_SK: return true;
        default: return std::u32string_view(U"'.:·’‘․‧").find(c) != std::u32string_view::npos;
    }
}

// A capital sigma ends a word where a letter comes before it and none behind.
bool is_final_sigma(std::u32string_view text, std::size_t at) {
    std::size_t before = at, behind = at + 1;
    while (before > 0 && is_passed_over(text[before - 1]))
        --before;
    while (behind < text.size() && is_passed_over(text[behind]))
        ++behind;
    return before > 0 && is_cased(text[before - 1]) &&
           !(behind < text.size() && is_cased(text[behind]));
}

}  // namespace

std::u32string code_points(std::string_view utf8) {
    std::u32string out;
    out.reserve(utf8.size());
    for (std::size_t at = 0; at < utf8.size();) {
        const Utf8Unit unit = utf8_unit(utf8, at);
        out += unit.code < 0 ? U'\uFFFD' : char32_t(unit.code);
        at += unit.bytes;
    }
    return out;
}

bool is_python_space(char32_t c) {
    return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_python_digit(char32_t c) {
    return c < 0x80 ? c >= U'0' && c <= U'9' : category(c) == UTF8PROC_CATEGORY_ND;
}

bool is_python_word(char32_t c) {
    if (c == U'_')
        return true;
    switch (category(c)) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_NO: return true;
        default: return false;
    }
}

std::u32string python_lower(std::u32string_view text) {
    std::u32string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == U'\u0130')  // I with a dot: the one letter whose small form is two
            out += U"i\u0307";
        else if (text[i] == U'Σ')
            out += is_final_sigma(text, i) ? U'ς' : U'σ';
        else
            out += char32_t(utf8proc_tolower(utf8proc_int32_t(text[i])));
    }
    return out;
}

namespace {

// The longest runs of characters that `belongs` accepts.
template <typename Belongs>
std::vector<std::u32string_view> runs(std::u32string_view text, Belongs&& belongs) {
    std::vector<std::u32string_view> out;
    for (std::size_t at = 0; at < text.size();) {
        std::size_t end = at;
        while (end < text.size() && belongs(text[end]))
            ++end;
        if (end > at)
            out.push_back(text.substr(at, end - at));
        at = end + 1;
    }
    return out;
}

}  // namespace

std::vector<std::u32string_view> split_at_spaces(std::u32string_view text) {
    return runs(text, [](char32_t c) { return !is_python_space(c); });
}

std::vector<std::u32string_view> split_at(std::u32string_view text, char32_t separator) {
    std::vector<std::u32string_view> out;
    for (;;) {
        const std::size_t end = text.find(separator);
        out.push_back(text.substr(0, end));
        if (end == std::u32string_view::npos)
            return out;
        text.remove_prefix(end + 1);
    }
}

std::vector<std::u32string_view> runs_of_digits(std::u32string_view text) {
    return runs(text, is_python_digit);
}

}  // namespace cake
