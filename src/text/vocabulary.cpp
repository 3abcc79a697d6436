#include "text/vocabulary.h"

#include "base/error.h"
#include "io/file_error.h"

namespace cake {

void Vocabulary::add(TokenId id, std::string_view text) {
    // Real files number their tokens without gaps, or with a few before the added ones.
    const std::size_t limit = 2 * expected_ + 1024;
    if (id < 0 || std::size_t(id) >= limit)
        throw usage_error("{}: token {} has the id {}, but there are {} tokens", file_, quote(text),
                          id, expected_);

    if (std::size_t(id) >= texts_.size())
        texts_.resize(std::size_t(id) + 1, nullptr);
    const auto [entry, is_new] = ids_.insert_or_assign(std::string(text), id);
    texts_[std::size_t(id)] = &entry->first;
}

std::optional<TokenId> Vocabulary::id_of(std::string_view text) const {
    const auto found = ids_.find(text);
    if (found == ids_.end())
        return std::nullopt;
    return found->second;
}

const std::string& Vocabulary::text(TokenId id) const {
    static const std::string none;
    return contains(id) ? *texts_[std::size_t(id)] : none;
}

}  // namespace cake
