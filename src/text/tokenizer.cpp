#include "text/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "text/tokenizer_spec.h"
#include "text/utf8.h"

namespace cake {

struct Tokenizer::Impl {
    explicit Impl(TokenizerSpec from)
        : spec(std::move(from)),
          raw_tokens(select(spec, false)),
          normalized_tokens(select(spec, true)),
          bpe(spec.vocabulary, spec.merges, spec.bpe),
          decoder(spec.vocabulary, spec.decoder),
          special(std::size_t(spec.vocabulary.size()), false) {
        for (const AddedToken& token : spec.added)
            if (spec.vocabulary.contains(token.id))
                special[std::size_t(token.id)] = token.special;
        spec.merges = {};  // bpe has them
    }

    // The added tokens that are looked for before, or after, a text is normalised.
    static std::vector<AddedToken> select(const TokenizerSpec& spec, bool normalized) {
        std::vector<AddedToken> out;
        for (AddedToken token : spec.added) {
            if (token.normalized != normalized)
                continue;
            // They are looked for in the form in which a text would hold them.
            if (normalized)
                token.text = normalise(spec.normalizer, token.text);
            out.push_back(std::move(token));
        }
        return out;
    }

    TokenizerSpec spec;
    AddedTokens raw_tokens, normalized_tokens;
    BpeModel bpe;
    TokenDecoder decoder;
    std::vector<bool> special;  // by id
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_folder(const std::string& folder) {
    return Tokenizer(std::make_unique<Impl>(tokenizer_from_folder(folder)));
}

Tokenizer Tokenizer::from_json(std::string_view json, const std::string& name) {
    return Tokenizer(std::make_unique<Impl>(tokenizer_from_json(json, name)));
}

Tokenizer Tokenizer::from_gguf(const GgufFile& gguf) {
    return Tokenizer(std::make_unique<Impl>(tokenizer_from_gguf(gguf)));
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool add_special) const {
    const TokenizerSpec& spec = impl_->spec;
    std::string mended;
    if (!is_utf8(text)) {
        mended = mend_utf8(text);
        text = mended;
    }

    std::vector<TokenId> ids;
    if (add_special)
        ids = spec.in_front;
    BpeModel::Encoder encoder(impl_->bpe);
    for (const Gap& gap : impl_->raw_tokens.split(text)) {
        if (gap.token >= 0) {
            ids.push_back(gap.token);
            continue;
        }
        const std::string normal =
            normalise(spec.normalizer,
                      std::string(text.substr(gap.range.begin, gap.range.end - gap.range.begin)));
        for (const Gap& part : impl_->normalized_tokens.split(normal)) {
            if (part.token >= 0) {
                ids.push_back(part.token);
                continue;
            }
            const bool at_start = gap.range.begin == 0 && part.range.begin == 0;
            const Words words = pretokenize(
                spec.pre_tokenizer,
                normal.substr(part.range.begin, part.range.end - part.range.begin), at_start);
            const std::string_view all = words.text;
            for (const TextRange& word : words.ranges)
                encoder.encode(all.substr(word.begin, word.end - word.begin), ids);
        }
    }
    if (add_special)
        ids.insert(ids.end(), spec.behind.begin(), spec.behind.end());
    return ids;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
    StreamDecoder stream(*this, skip_special);
    std::string text;
    for (const TokenId id : ids)
        text += stream.next(id);
    return text + stream.finish();
}

int Tokenizer::vocabulary_size() const { return impl_->spec.vocabulary.size(); }
std::optional<TokenId> Tokenizer::bos() const { return impl_->spec.bos; }
const std::vector<TokenId>& Tokenizer::end_of_sequence() const {
    return impl_->spec.end_of_sequence;
}
std::optional<TokenId> Tokenizer::id_of(std::string_view token) const {
    return impl_->spec.vocabulary.id_of(token);
}

const std::string& Tokenizer::token(TokenId id) const {
    CAKE_CHECK(id >= 0 && id < vocabulary_size(), "token id {} of a vocabulary of {}", id,
               vocabulary_size());
    return impl_->spec.vocabulary.text(id);
}

bool Tokenizer::is_special(TokenId id) const {
    return id >= 0 && id < vocabulary_size() && impl_->special[std::size_t(id)];
}

bool Tokenizer::adds_bos() const {
    const auto& in_front = impl_->spec.in_front;
    return bos() && std::ranges::find(in_front, *bos()) != in_front.end();
}

const std::string& Tokenizer::kind() const { return impl_->spec.kind; }
const std::string& Tokenizer::chat_template() const { return impl_->spec.chat_template; }

struct StreamDecoder::State {
    const Tokenizer* tokenizer;
    bool skip_special;
    TokenDecoder::Stream stream;
};

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : state_(std::make_unique<State>(
          State{&tokenizer, skip_special, TokenDecoder::Stream(tokenizer.impl_->decoder)})) {}
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;
StreamDecoder::~StreamDecoder() = default;

std::string StreamDecoder::next(TokenId id) {
    if (state_->skip_special && state_->tokenizer->is_special(id))
        return {};
    return state_->stream.next(id);
}

std::string StreamDecoder::finish() { return state_->stream.finish(); }

}  // namespace cake
