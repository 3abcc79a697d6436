// Text to token ids and back, exactly as the model's own tokenizer does it.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"

namespace cake {

class GgufFile;

class Tokenizer {
public:
    // From a folder with tokenizer.json (and tokenizer_config.json, generation_config.json, config.json where they
    // are there: special tokens, chat template). Usage errors name file and reason.
    static Tokenizer from_folder(const std::string& folder);
    // From the text of a tokenizer.json alone; `name` is for messages.
    static Tokenizer from_json(std::string_view json, const std::string& name);
    // From the metadata of a GGUF file.
    static Tokenizer from_gguf(const GgufFile& gguf);

    Tokenizer(Tokenizer&&) noexcept;
    Tokenizer& operator=(Tokenizer&&) noexcept;
    ~Tokenizer();

    // `text`: UTF-8; invalid bytes are taken as U+FFFD. Special tokens spelled in the text become their ids.
    // `add_special`: put BOS in front (EOS behind) where the model's tokenizer does so.
    std::vector<TokenId> encode(std::string_view text, bool add_special) const;

    // Bytes that are not UTF-8 become U+FFFD, as the model's own tokenizer does it.
    std::string decode(std::span<const TokenId> ids, bool skip_special = true) const;

    int vocabulary_size() const;  // ids are 0..size-1, added tokens included
    std::optional<TokenId> bos() const;
    const std::vector<TokenId>& end_of_sequence() const;  // any of them ends a generation
    std::optional<TokenId> id_of(std::string_view token) const;
    const std::string& token(TokenId id) const;  // as in the vocabulary
    bool is_special(TokenId id) const;
    bool adds_bos() const;
    const std::string& kind() const;           // for people: "byte-level BPE", ...
    const std::string& chat_template() const;  // the model's own Jinja text, or empty

private:
    friend class StreamDecoder;
    struct Impl;
    explicit Tokenizer(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// Decodes token by token; what it returns is whole UTF-8 characters, and all pieces joined are decode(ids).
// The tokenizer outlives it.
class StreamDecoder {
public:
    explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true);
    std::string next(TokenId id);  // text that is now certain, perhaps empty
    std::string finish();          // the rest; nothing more may follow

    StreamDecoder(StreamDecoder&&) noexcept;
    StreamDecoder& operator=(StreamDecoder&&) noexcept;
    ~StreamDecoder();

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace cake
