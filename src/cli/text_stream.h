// An answer on standard output, token by token.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "text/stop.h"
#include "text/tokenizer.h"

namespace cake {

// Prints tokens as they come, until a stop string does. Without a tokenizer it prints ids. The tokenizer must outlive it.
class TextStream {
public:
    TextStream(const std::optional<Tokenizer>& tokenizer, std::vector<std::string> stops);
    // False: a stop string has come.
    bool take(TokenId id);
    // Prints what was held back. Returns all that was printed.
    std::string finish();

private:
    void print(const std::string& piece);

    std::optional<StreamDecoder> decoder_;
    StopMatcher stop_;
    std::string text_;
};

}  // namespace cake
