// From tokens back to text.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "text/vocabulary.h"

namespace cake {

struct DecoderOptions {
    bool byte_level = false;     // a token's characters spell bytes (GPT-2)
    bool byte_fallback = false;  // <0x00>..<0xFF> are bytes (SentencePiece)
    std::vector<std::pair<std::string, std::string>> replace;  // in each token: {"▁", " "}
    std::string strip = " ";                                   // taken from the front of the text,
    int strip_count = 0;                                       // at most so often
};

// What each token of a vocabulary adds to a text.
class TokenDecoder {
public:
    TokenDecoder(const Vocabulary& vocabulary, DecoderOptions options);

    // Decodes the tokens of one text in order.
    class Stream {
    public:
        explicit Stream(const TokenDecoder& decoder)
            : decoder_(&decoder), strips_left_(decoder.options_.strip_count) {}
        std::string next(TokenId id);  // the text that is now certain: whole characters
        std::string finish();          // the rest
    private:
        std::string strip(std::string text);

        const TokenDecoder* decoder_;
        std::string undecided_;  // bytes whose meaning depends on the tokens to come
        int strips_left_;
    };

private:
    struct Piece {
        std::string bytes;
        bool is_byte = false;  // one of <0x00>..<0xFF>
    };
    DecoderOptions options_;
    std::vector<Piece> pieces_;  // by id
};

}  // namespace cake
