// Byte-pair encoding: the merges a model learned, and their application to the symbols of a word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/dtype.h"

namespace cake {

// Neighbours `left` and `right` become `merged`. Lower ranks go first.
struct Merge {
    TokenId left;
    TokenId right;
    TokenId merged;
    std::uint32_t rank;
};

// Finds the merge of two neighbours: a hash table with open addressing, since encoding asks it all the time.
class MergeTable {
public:
    MergeTable() : MergeTable(std::vector<Merge>{}) {}
    // Of merges with the same pair the last one counts.
    explicit MergeTable(const std::vector<Merge>& merges);

    // Null where the two do not merge.
    const Merge* find(TokenId left, TokenId right) const;

private:
    std::size_t slot_of(TokenId left, TokenId right) const;
    std::vector<Merge> slots_;  // a power of two, at most half of them taken; free: merged < 0
};

// Applies merges to one word at a time. Keeps its memory between words.
class Merger {
public:
    explicit Merger(const MergeTable& table) : table_(table) {}

    // Merges the best ranked neighbours, of equal ones the leftmost, until no two merge: O(n log n).
    void merge(std::vector<TokenId>& symbols);

private:
    struct Candidate {
        std::uint32_t rank;
        std::uint32_t at;  // index of the left symbol
        TokenId left, right, merged;
        bool operator>(const Candidate& other) const {
            return rank != other.rank ? rank > other.rank : at > other.at;
        }
    };
    void consider(const std::vector<TokenId>& symbols, std::uint32_t at);

    const MergeTable& table_;
    std::vector<Candidate> heap_;
    std::vector<std::uint32_t> next_, previous_;  // the symbols still there, as a linked list
};

}  // namespace cake
