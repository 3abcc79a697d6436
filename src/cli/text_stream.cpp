#include "cli/text_stream.h"

#include <utility>

#include <fmt/format.h>

namespace cake {

TextStream::TextStream(const std::optional<Tokenizer>& tokenizer, std::vector<std::string> stops,
                       std::FILE* print_to)
    : stop_(std::move(stops)), print_to_(print_to) {
    if (tokenizer)
        decoder_.emplace(*tokenizer);
}

bool TextStream::take(TokenId id) {
    add(decoder_ ? stop_.next(decoder_->next(id)) : fmt::format("{} ", id));
    return !stop_.stopped();
}

std::string TextStream::finish() {
    if (decoder_)
        add(stop_.next(decoder_->finish()) + stop_.finish());
    return text_;
}

void TextStream::add(const std::string& piece) {
    text_ += piece;
    if (!print_to_)
        return;
    std::fwrite(piece.data(), 1, piece.size(), print_to_);
    std::fflush(print_to_);
}

}  // namespace cake
