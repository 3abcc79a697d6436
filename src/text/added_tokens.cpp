#include "text/added_tokens.h"

#include <algorithm>

#include <utf8proc.h>

#include "text/utf8.h"

namespace cake {

namespace {

bool is_space(std::int32_t code) {
    if (code < 0)
        return false;
    const auto category = utf8proc_category(code);
    return (code >= 0x09 && code <= 0x0D) || code == 0x85 || category == UTF8PROC_CATEGORY_ZS ||
           category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

bool is_word_character(std::int32_t code) {
    if (code < 0)
        return false;
    switch (utf8proc_category(code)) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_MC:
        case UTF8PROC_CATEGORY_ME:
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_PC: return true;
        default: return false;
    }
}

// Where the character before `at` begins; `at` > 0.
std::size_t character_before(std::string_view text, std::size_t at) {
    do
        --at;
    while (at > 0 && (std::uint8_t(text[at]) & 0xC0) == 0x80);
    return at;
}

bool stands_alone(std::string_view text, TextRange range) {
    const bool left = range.begin == 0 ||
                      !is_word_character(utf8_unit(text, character_before(text, range.begin)).code);
    const bool right =
        range.end == text.size() || !is_word_character(utf8_unit(text, range.end).code);
    return left && right;
}

// Adds the white space that the token takes, on the left not before `from`.
TextRange with_spaces(const AddedToken& token, std::string_view text, TextRange range,
                      std::size_t from) {
    while (token.takes_left && range.begin > from) {
        const std::size_t before = character_before(text, range.begin);
        if (before < from || !is_space(utf8_unit(text, before).code))
            break;
        range.begin = before;
    }
    while (token.takes_right && range.end < text.size()) {
        const Utf8Unit unit = utf8_unit(text, range.end);
        if (!is_space(unit.code))
            break;
        range.end += unit.bytes;
    }
    return range;
}

}  // namespace

AddedTokens::AddedTokens(const std::vector<AddedToken>& tokens) : nodes_(1) {
    for (const AddedToken& token : tokens) {
        // A text that is no UTF-8 occurs in none that is, but might seem to, within a character.
        if (token.text.empty() || !is_utf8(token.text))
            continue;
        std::uint32_t at = 0;
        for (const char c : token.text) {
            const auto byte = std::uint8_t(c);
            auto& edges = nodes_[at].edges;
            auto edge = std::ranges::lower_bound(edges, byte, {}, &Edge::byte);
            if (edge == edges.end() || edge->byte != byte)
                edge = edges.insert(edge, {byte, std::uint32_t(nodes_.size())});
            at = edge->node;
            if (at == nodes_.size())
                nodes_.emplace_back();
        }
        nodes_[at].token = std::int32_t(tokens_.size());
        tokens_.push_back(token);
    }
}

const AddedTokens::Node* AddedTokens::follow(const Node& node, char c) const {
    const auto byte = std::uint8_t(c);
    const auto edge = std::ranges::lower_bound(node.edges, byte, {}, &Edge::byte);
    return edge == node.edges.end() || edge->byte != byte ? nullptr : &nodes_[edge->node];
}

const AddedToken* AddedTokens::longest_at(std::string_view text, std::size_t at) const {
    const AddedToken* longest = nullptr;
    const Node* node = &nodes_.front();
    for (; at < text.size(); ++at) {
        node = follow(*node, text[at]);
        if (!node)
            break;
        if (node->token >= 0)
            longest = &tokens_[std::size_t(node->token)];
    }
    return longest;
}

std::vector<Gap> AddedTokens::split(std::string_view text) const {
    std::vector<Gap> gaps;
    std::size_t from = 0;  // what is before belongs to a gap
    const auto add_text_until = [&](std::size_t end) {
        if (end > from)
            gaps.push_back({{from, end}, -1});
    };
    for (std::size_t at = 0; at < text.size() && !tokens_.empty();) {
        const AddedToken* token = longest_at(text, at);
        const TextRange range{at, at + (token ? token->text.size() : 0)};
        if (!token || (token->single_word && !stands_alone(text, range))) {
            at = token ? range.end : at + 1;
            continue;
        }
        const TextRange taken = with_spaces(*token, text, range, from);
        add_text_until(taken.begin);
        gaps.push_back({taken, token->id});
        at = from = taken.end;
    }
    add_text_until(text.size());
    return gaps;
}

}  // namespace cake
