// Tokens that are found in the text itself, before anything else looks at it: special ones and others added to a
// vocabulary.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "text/pattern.h"

namespace cake {

struct AddedToken {
    TokenId id = 0;
    std::string text;
    bool special = false;      // decode() can leave it out
    bool normalized = false;   // looked for in the normalised text, else in the text as given
    bool takes_left = false;   // takes the white space before it ("lstrip")
    bool takes_right = false;  // and behind it ("rstrip")
    bool single_word = false;  // only where no word character is beside it
};

// A part of a text: a token, or (`token` < 0) text between tokens.
struct Gap {
    TextRange range;
    TokenId token = -1;
};

// Finds the leftmost token, of several the longest, again and again: one pass over a trie.
class AddedTokens {
public:
    explicit AddedTokens(const std::vector<AddedToken>& tokens);
    // All of `text` in order, no part empty. `text`: UTF-8.
    std::vector<Gap> split(std::string_view text) const;

private:
    struct Edge {
        std::uint8_t byte;
        std::uint32_t node;
    };
    struct Node {
        std::vector<Edge> edges;  // sorted by byte
        std::int32_t token = -1;  // index into tokens_
    };
    const Node* follow(const Node& node, char byte) const;
    const AddedToken* longest_at(std::string_view text, std::size_t at) const;

    std::vector<AddedToken> tokens_;
    std::vector<Node> nodes_;
};

}  // namespace cake
