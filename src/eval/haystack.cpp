#include "eval/haystack.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "text/utf8.h"

namespace cake {
namespace {

constexpr std::size_t longest_sentence = 1000;  // bytes

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Behind the quotes and brackets that close at `at`; ASCII and typographic ones.
std::size_t behind_closing(std::string_view text, std::size_t at) {
    constexpr std::string_view closing[] = {"\"", "'", ")", "]", "_", "\u201d", "\u2019", "\u00bb"};
    for (bool found = true; found;) {
        found = false;
        for (std::string_view mark : closing)
            if (text.substr(at).starts_with(mark)) {
                at += mark.size();
                found = true;
            }
    }
    return at;
}

bool is_title(std::string_view sentence) {
    constexpr std::string_view titles[] = {"Mr.", "Mrs.", "Ms.", "Dr.", "St."};
    const std::size_t space = sentence.rfind(' ');
    const std::string_view word = sentence.substr(space == sentence.npos ? 0 : space + 1);
    return std::ranges::count(titles, word) > 0;
}

// Whether white space that begins at `at` is, or holds, a blank line.
bool is_blank_line(std::string_view text, std::size_t at) {
    int breaks = 0;
    for (; at < text.size() && is_space(text[at]); ++at)
        breaks += text[at] == '\n';
    return breaks > 1;
}

}  // namespace

std::vector<std::string> sentences_of(std::string_view text) {
    std::vector<std::string> out;
    std::string sentence;
    const auto end_sentence = [&] {
        if (!sentence.empty())
            out.push_back(std::exchange(sentence, {}));
    };
    for (std::size_t at = 0; at < text.size();) {
        if (is_space(text[at])) {
            if (is_blank_line(text, at) || sentence.size() >= longest_sentence)
                end_sentence();
            while (at < text.size() && is_space(text[at]))
                ++at;
            if (!sentence.empty() && at < text.size())
                sentence += ' ';
            continue;
        }
        const bool ends = text[at] == '.' || text[at] == '!' || text[at] == '?';
        std::size_t next = at + utf8_unit(text, at).bytes;
        if (ends)
            next = behind_closing(text, next);
        sentence += text.substr(at, next - at);
        at = next;
        // A text without spaces is cut between characters.
        if ((ends && at < text.size() && is_space(text[at]) && !is_title(sentence)) ||
            sentence.size() >= 2 * longest_sentence)
            end_sentence();
    }
    end_sentence();
    return out;
}

Haystack text_haystack(std::string_view text, const Tokenizer& tokenizer) {
    Haystack out;
    out.sentences = sentences_of(text);
    for (const std::string& sentence : out.sentences)
        out.tokens.push_back(int(tokenizer.encode(out.separator + sentence, false).size()));
    return out;
}

std::string random_uuid(std::mt19937_64& random) {
    const std::uint64_t high = (random() & ~std::uint64_t(0xf000)) | 0x4000;
    const std::uint64_t low = (random() >> 2) | std::uint64_t(1) << 63;
    return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", high >> 32, (high >> 16) & 0xffff,
                       high & 0xffff, low >> 48, low & 0xffffffffffff);
}

std::string fact_sentence(std::string_view kind, std::string_view key, std::string_view value) {
    return fmt::format("One of the special magic {}s for {} is: {}.", kind, key, value);
}

Haystack fact_haystack(int n_tokens, std::mt19937_64 random, const Tokenizer& tokenizer) {
    Haystack out;
    out.separator = "\n";
    for (int sum = 0; sum < n_tokens;) {
        const std::string key = random_uuid(random);
        out.sentences.push_back(fact_sentence("uuid", key, random_uuid(random)));
        out.tokens.push_back(
            int(tokenizer.encode(out.separator + out.sentences.back(), false).size()));
        sum += out.tokens.back();
    }
    return out;
}

}  // namespace cake
