// What a tokenizer's file says, in one form for all kinds of files. Loaders fill it, Tokenizer is built from it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/added_tokens.h"
#include "text/bpe_model.h"
#include "text/normalise.h"
#include "text/pretokenize.h"
#include "text/token_decoder.h"
#include "text/vocabulary.h"

namespace cake {

class GgufFile;

struct TokenizerSpec {
    Vocabulary vocabulary;  // added tokens included
    std::vector<AddedToken> added;

    std::vector<NormalizerStep> normalizer;
    std::vector<PreTokenizerStep> pre_tokenizer;
    BpeOptions bpe;
    std::vector<Merge> merges;
    DecoderOptions decoder;

    std::vector<TokenId> in_front, behind;  // what add_special adds to a text
    std::optional<TokenId> bos;
    std::vector<TokenId> end_of_sequence;  // the model's own first

    std::string kind;           // for people
    std::string chat_template;  // Jinja, or empty
};

// From the text of a tokenizer.json; `name` is for messages. Knows bos from its post-processor only, and nothing of
// the end of a sequence. Usage errors say what the file asks for that is not supported.
TokenizerSpec tokenizer_from_json(std::string_view json, const std::string& name);
// With the files beside it.
TokenizerSpec tokenizer_from_folder(const std::string& folder);
TokenizerSpec tokenizer_from_gguf(const GgufFile& gguf);

// Adds those tokens that end a turn in the models we know, under whatever name.
void add_known_ends(TokenizerSpec& spec);
// Adds an id, once, if the vocabulary has it.
void add_end(TokenizerSpec& spec, TokenId id);

// Adds the next merge in rank, of two tokens or of "left right". Usage error where a token or their union is not in the
// vocabulary; `name` is the file.
void add_merge(TokenizerSpec& spec, const std::string& left, const std::string& right,
               const std::string& name);
void add_merge(TokenizerSpec& spec, const std::string& merge, const std::string& name);

}  // namespace cake
