// The tokens of a model: text to id and back.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/dtype.h"

namespace cake {

// Lets maps keyed by strings be asked with string views.
struct StringHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
        return std::hash<std::string_view>{}(text);
    }
};
template <typename T>
using StringMap = std::unordered_map<std::string, T, StringHash, std::equal_to<>>;

// Ids may have holes: text() of a hole is empty. A text given twice keeps its latest id, both ids keep the text.
class Vocabulary {
public:
    Vocabulary() = default;
    // `expected`: how many tokens `file` lists. It bounds the ids, so that the memory taken is what the file justifies,
    // not what an id in it claims.
    Vocabulary(std::size_t expected, std::string file)
        : expected_(expected), file_(std::move(file)) {}

    // Not copied: ids point at the texts.
    Vocabulary(Vocabulary&&) = default;
    Vocabulary& operator=(Vocabulary&&) = default;

    // Throws a usage error for an id that is negative or far beyond the number of tokens.
    void add(TokenId id, std::string_view text);

    int size() const { return int(texts_.size()); }  // largest id + 1
    bool contains(TokenId id) const {
        return id >= 0 && id < size() && texts_[std::size_t(id)] != nullptr;
    }
    std::optional<TokenId> id_of(std::string_view text) const;
    const std::string& text(TokenId id) const;  // empty where there is none

private:
    std::size_t expected_ = 0;
    std::string file_;
    StringMap<TokenId> ids_;
    std::vector<const std::string*> texts_;  // keys of ids_, which stay where they are
};

}  // namespace cake
