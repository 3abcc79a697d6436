#include "text/normalise.h"

#include <algorithm>
#include <array>

#include <utf8proc.h>

#include "base/error.h"
#include "text/utf8.h"

namespace cake {

namespace {

// Whether no normal form changes the text: ASCII, and for the composed form all below U+0300.
bool stays_as_it_is(NormalForm form, std::string_view text) {
    const int limit = form == NormalForm::Nfc ? 0xCC : 0x80;  // the first byte of U+0300 is 0xCC
    return std::ranges::all_of(text, [&](char c) { return std::uint8_t(c) < limit; });
}

int combining_class(utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; }

// Puts marks that follow each other into canonical order. (utf8proc sorts them too, but in quadratic time, which a
// text of a million marks would show.)
void order_marks(std::vector<utf8proc_int32_t>& codes) {
    for (auto at = codes.begin(); at != codes.end();) {
        at = std::find_if(at, codes.end(), [](auto code) { return combining_class(code) != 0; });
        const auto end =
            std::find_if(at, codes.end(), [](auto code) { return combining_class(code) == 0; });
        std::stable_sort(at, end,
                         [](auto a, auto b) { return combining_class(a) < combining_class(b); });
        at = end;
    }
}

}  // namespace

std::string to_normal_form(NormalForm form, std::string_view text) {
    if (stays_as_it_is(form, text))
        return std::string(text);

    const bool composes = form == NormalForm::Nfc || form == NormalForm::Nfkc;
    const bool compatible = form == NormalForm::Nfkc || form == NormalForm::Nfkd;
    const auto options =
        utf8proc_option_t(UTF8PROC_STABLE | (composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                          (compatible ? UTF8PROC_COMPAT : 0));

    std::vector<utf8proc_int32_t> codes;
    codes.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
        const Utf8Unit unit = utf8_unit(text, at);
        at += unit.bytes;
        // 18 code points is the longest decomposition in Unicode (U+FDFA); the array has room to spare.
        std::array<utf8proc_int32_t, 64> parts;
        const auto n =
            utf8proc_decompose_char(unit.code, parts.data(), parts.size(), options, nullptr);
        CAKE_CHECK(n >= 0 && n <= utf8proc_ssize_t(parts.size()), "U+{:04X} does not decompose",
                   unit.code);
        codes.insert(codes.end(), parts.begin(), parts.begin() + n);
    }
    order_marks(codes);
    const auto n =
        composes ? utf8proc_normalize_utf32(codes.data(), utf8proc_ssize_t(codes.size()), options)
                 : utf8proc_ssize_t(codes.size());
    CAKE_CHECK(n >= 0, "text is not normalised: {}", utf8proc_errmsg(n));

    std::string out;
    out.reserve(text.size());
    for (utf8proc_ssize_t i = 0; i < n; ++i) {
        std::array<utf8proc_uint8_t, 4> bytes;
        const auto length = utf8proc_encode_char(codes[std::size_t(i)], bytes.data());
        out.append(reinterpret_cast<const char*>(bytes.data()), std::size_t(length));
    }
    return out;
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
    std::string out;
    out.reserve(text.size());
    for (;;) {
        const std::size_t at = text.find(from);
        out += text.substr(0, at);
        if (at == std::string_view::npos)
            return out;
        out += to;
        text.remove_prefix(at + from.size());
    }
}

std::string normalise(const std::vector<NormalizerStep>& steps, std::string text) {
    struct Apply {
        std::string text;
        std::string operator()(NormalForm form) { return to_normal_form(form, text); }
        std::string operator()(const PrependStep& step) {
            return text.empty() ? text : step.text + text;
        }
        std::string operator()(const ReplaceStep& step) {
            return replace_all(text, step.from, step.to);
        }
    };
    const std::size_t most_bytes = 64 * text.size() + 1024;
    for (const NormalizerStep& step : steps) {
        text = std::visit(Apply{std::move(text)}, step);
        if (text.size() > most_bytes)
            throw usage_error(
                "the tokenizer's normalizer makes {} bytes of a text that is shorter by far",
                text.size());
    }
    return text;
}

}  // namespace cake
