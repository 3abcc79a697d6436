// Haystacks: sentences that fill a prompt between the facts that it hides.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace cake {

struct Haystack {
    std::vector<std::string> sentences;
    std::vector<int> tokens;      // of each sentence, the separator included
    std::string separator = " ";  // between sentences
};

// The sentences of a text, white space in them collapsed. A sentence ends behind . ! ? (and quotes or brackets that close),
// not behind titles as "Mr."; at a blank line; and at the first space after 1000 bytes, or after 2000 without one.
std::vector<std::string> sentences_of(std::string_view text);

Haystack text_haystack(std::string_view text, const Tokenizer& tokenizer);

// A version 4 UUID, as Python's uuid module writes it.
std::string random_uuid(std::mt19937_64& random);

// RULER's sentence of a fact; `kind`: "number" or "uuid".
std::string fact_sentence(std::string_view kind, std::string_view key, std::string_view value);

// Facts about uuids, a line each, of `n_tokens` or a few more: RULER's key-value form. More tokens have the same beginning.
Haystack fact_haystack(int n_tokens, std::mt19937_64 random, const Tokenizer& tokenizer);

}  // namespace cake
