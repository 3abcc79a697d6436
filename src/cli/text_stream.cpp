#include "cli/text_stream.h"

#include <cstdio>
#include <utility>

#include <fmt/format.h>

namespace cake {

TextStream::TextStream(const std::optional<Tokenizer>& tokenizer, std::vector<std::string> stops)
    : stop_(std::move(stops)) {
    if (tokenizer)
        decoder_.emplace(*tokenizer);
}

bool TextStream::take(TokenId id) {
    print(decoder_ ? stop_.next(decoder_->next(id)) : fmt::format("{} ", id));
    return !stop_.stopped();
}

std::string TextStream::finish() {
    if (decoder_)
        print(stop_.next(decoder_->finish()) + stop_.finish());
    return text_;
}

void TextStream::print(const std::string& piece) {
    text_ += piece;
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
}

}  // namespace cake
