#include "text/bpe_model.h"

#include <algorithm>

#include "base/error.h"
#include "text/byte_level.h"
#include "text/utf8.h"

namespace cake {

namespace {

constexpr TokenId no_token = -1;

// Words that are worth remembering: most are short. The bound keeps memory small for any text.
constexpr std::size_t most_seen_words = 1 << 16;
constexpr std::size_t most_seen_bytes = 48;

bool reaches_into_metaspace(const Vocabulary& vocabulary, const Merge& merge) {
    return vocabulary.text(merge.right).starts_with(metaspace_mark) &&
           !vocabulary.text(merge.left).ends_with(metaspace_mark);
}

}  // namespace

BpeModel::BpeModel(const Vocabulary& vocabulary, const std::vector<Merge>& merges,
                   BpeOptions options)
    : vocabulary_(vocabulary), merges_(merges), options_(options) {
    for (int byte = 0; byte < 256; ++byte) {
        const char c = char(byte);
        const std::string text =
            options_.byte_level ? spell_bytes({&c, 1}) : fmt::format("<0x{:02X}>", byte);
        byte_tokens_[std::size_t(byte)] = vocabulary_.id_of(text).value_or(no_token);
    }
    // Where "▁" always begins a token, a text may be cut in front of it: the parts are short, and repeat.
    parts_at_metaspace_ = !options_.byte_level && !options_.ignore_merges &&
                          vocabulary_.id_of(metaspace_mark).has_value() &&
                          std::ranges::none_of(merges, [&](const Merge& m) {
                              return reaches_into_metaspace(vocabulary_, m);
                          });
}

void BpeModel::Encoder::encode(std::string_view word, std::vector<TokenId>& ids) {
    if (!model_.parts_at_metaspace_)
        return encode_part(word, ids);
    while (!word.empty()) {
        // A part is a run of "▁" and what follows it up to the next.
        std::size_t end = 0;
        while (word.substr(end).starts_with(metaspace_mark))
            end += metaspace_mark.size();
        end = std::min(word.find(metaspace_mark, end), word.size());
        encode_part(word.substr(0, end), ids);
        word.remove_prefix(end);
    }
}

void BpeModel::Encoder::encode_part(std::string_view word, std::vector<TokenId>& ids) {
    if (const auto seen = seen_.find(word); seen != seen_.end()) {
        ids.insert(ids.end(), seen->second.begin(), seen->second.end());
        return;
    }
    symbols_.clear();
    std::optional<TokenId> whole;
    if (model_.options_.ignore_merges)
        whole = model_.vocabulary_.id_of(model_.options_.byte_level ? spell_bytes(word)
                                                                    : std::string(word));
    if (whole) {
        symbols_.push_back(*whole);
    } else {
        find_symbols(word);
        merger_.merge(symbols_);
    }
    ids.insert(ids.end(), symbols_.begin(), symbols_.end());
    if (word.size() <= most_seen_bytes && seen_.size() < most_seen_words)
        seen_.emplace(word, symbols_);
}

// The word's bytes or characters as tokens.
void BpeModel::Encoder::find_symbols(std::string_view word) {
    const BpeOptions& options = model_.options_;
    bool last_is_unknown = false;
    const auto add_unknown = [&] {
        if (options.unknown && !(options.fuse_unknown && last_is_unknown))
            symbols_.push_back(*options.unknown);
        last_is_unknown = true;
    };

    for (std::size_t at = 0; at < word.size();) {
        const std::size_t bytes = options.byte_level ? 1 : utf8_unit(word, at).bytes;
        const std::string_view character = word.substr(at, bytes);
        at += bytes;

        const auto token_of = [&](char byte) { return model_.byte_tokens_[std::uint8_t(byte)]; };
        if (!options.byte_level) {
            if (const auto id = model_.vocabulary_.id_of(character)) {
                symbols_.push_back(*id);
                last_is_unknown = false;
                continue;
            }
        }
        const bool spells_bytes = options.byte_level || options.byte_fallback;
        if (spells_bytes &&
            std::ranges::all_of(character, [&](char c) { return token_of(c) != no_token; })) {
            for (const char c : character)
                symbols_.push_back(token_of(c));
            last_is_unknown = false;
        } else {
            add_unknown();
        }
    }
}

}  // namespace cake
