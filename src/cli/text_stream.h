// The text of an answer, token by token.
#pragma once

#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "text/stop.h"
#include "text/tokenizer.h"

namespace cake {

// Takes tokens as they come, until a stop string does. Without a tokenizer the text is a list of ids. The tokenizer must
// outlive it.
class TextStream {
public:
    // `print_to`: where text that is certain goes at once; null: nowhere.
    TextStream(const std::optional<Tokenizer>& tokenizer, std::vector<std::string> stops,
               std::FILE* print_to);
    // False: a stop string has come.
    bool take(TokenId id);
    // What was held back is certain now. Returns the whole text.
    std::string finish();

private:
    void add(const std::string& piece);

    std::optional<StreamDecoder> decoder_;
    StopMatcher stop_;
    std::string text_;
    std::FILE* print_to_;
};

}  // namespace cake
