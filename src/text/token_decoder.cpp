#include "text/token_decoder.h"

#include <charconv>

#include "text/byte_level.h"
#include "text/normalise.h"
#include "text/utf8.h"

namespace cake {

namespace {

// The byte that "<0x41>" names.
std::optional<char> named_byte(std::string_view token) {
    if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with('>'))
        return std::nullopt;
    unsigned value = 0;
    const char* end = token.data() + 5;
    const auto result = std::from_chars(token.data() + 3, end, value, 16);
    if (result.ec != std::errc() || result.ptr != end)
        return std::nullopt;
    return char(value);
}

// A run of byte tokens is text as a whole or, if it is not UTF-8, nothing of it: Hugging Face's ByteFallback.
std::string text_of_run(std::string_view run) {
    if (is_utf8(run))
        return std::string(run);
    std::string out;
    for (std::size_t i = 0; i < run.size(); ++i)
        out += replacement_character;
    return out;
}

}  // namespace

TokenDecoder::TokenDecoder(const Vocabulary& vocabulary, DecoderOptions options)
    : options_(std::move(options)) {
    pieces_.resize(std::size_t(vocabulary.size()));
    for (TokenId id = 0; id < vocabulary.size(); ++id) {
        const std::string& text = vocabulary.text(id);
        Piece& piece = pieces_[std::size_t(id)];
        if (options_.byte_level) {
            piece.bytes = unspell_bytes(text).value_or(text);
        } else if (const auto byte = named_byte(text); byte && options_.byte_fallback) {
            piece = {std::string(1, *byte), true};
        } else {
            piece.bytes = mend_utf8(text);
            for (const auto& [from, to] : options_.replace)
                piece.bytes = replace_all(piece.bytes, from, to);
        }
    }
}

std::string TokenDecoder::Stream::next(TokenId id) {
    if (id < 0 || std::size_t(id) >= decoder_->pieces_.size())
        return {};
    const Piece& piece = decoder_->pieces_[std::size_t(id)];
    if (decoder_->options_.byte_level) {
        undecided_ += piece.bytes;
        return strip(take_whole_characters(undecided_));
    }
    if (piece.is_byte) {
        undecided_ += piece.bytes;
        return {};
    }
    std::string text = text_of_run(std::exchange(undecided_, {})) + piece.bytes;
    return strip(std::move(text));
}

std::string TokenDecoder::Stream::finish() {
    const std::string rest = std::exchange(undecided_, {});
    return strip(decoder_->options_.byte_level ? mend_utf8(rest) : text_of_run(rest));
}

std::string TokenDecoder::Stream::strip(std::string text) {
    while (!text.empty() && strips_left_ > 0) {
        if (!text.starts_with(decoder_->options_.strip)) {
            strips_left_ = 0;  // the text has begun
        } else {
            text.erase(0, decoder_->options_.strip.size());
            --strips_left_;
        }
    }
    return text;
}

}  // namespace cake
