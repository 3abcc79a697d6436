// A byte-pair encoding model: a vocabulary, its merges, and what becomes of characters it does not know.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "text/bpe.h"
#include "text/vocabulary.h"

namespace cake {

struct BpeOptions {
    bool byte_level = false;  // symbols are bytes (GPT-2), else characters (SentencePiece)
    bool byte_fallback =
        false;  // a character that is no token becomes its bytes' tokens <0x00>..<0xFF>
    bool ignore_merges = false;  // a word that is a token is taken whole, whatever the merges say
    bool fuse_unknown = false;   // neighbouring unknown characters become one unknown token
    std::optional<TokenId> unknown;  // stands for unknown characters; without it they vanish
};

// "▁", SentencePiece's visible space.
inline constexpr std::string_view metaspace_mark = "\xE2\x96\x81";

class BpeModel {
public:
    // `vocabulary` outlives the model.
    BpeModel(const Vocabulary& vocabulary, const std::vector<Merge>& merges, BpeOptions options);

    // Encodes the words of one text one after another. Each thread has its own.
    class Encoder {
    public:
        explicit Encoder(const BpeModel& model) : model_(model), merger_(model.merges_) {}
        // Appends the ids of `word`, UTF-8, to `ids`.
        void encode(std::string_view word, std::vector<TokenId>& ids);

    private:
        void encode_part(std::string_view word, std::vector<TokenId>& ids);
        void find_symbols(std::string_view word);

        const BpeModel& model_;
        Merger merger_;
        std::vector<TokenId> symbols_;
        StringMap<std::vector<TokenId>> seen_;  // texts repeat their words
    };

private:
    const Vocabulary& vocabulary_;
    MergeTable merges_;
    BpeOptions options_;
    std::array<TokenId, 256> byte_tokens_;  // -1 where there is none
    bool parts_at_metaspace_ = false;       // no merge reaches from another character into a "▁"
};

}  // namespace cake
