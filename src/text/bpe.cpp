#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

#include "base/error.h"

namespace cake {

namespace {

constexpr std::uint32_t no_symbol = std::numeric_limits<std::uint32_t>::max();
constexpr TokenId free_slot = -1;  // a slot of the table without a merge
constexpr TokenId swallowed = -1;  // a symbol that its left neighbour has swallowed

}  // namespace

MergeTable::MergeTable(const std::vector<Merge>& merges)
    : slots_(std::bit_ceil(2 * merges.size() + 2), Merge{0, 0, free_slot, 0}) {
    for (const Merge& merge : merges)
        slots_[slot_of(merge.left, merge.right)] = merge;
}

// Where the pair is, or would be.
std::size_t MergeTable::slot_of(TokenId left, TokenId right) const {
    std::uint64_t hash = std::uint64_t(std::uint32_t(left)) << 32 | std::uint32_t(right);
    hash *= 0x9E3779B97F4A7C15u;  // Fibonacci hashing: 2^64 / golden ratio
    hash ^= hash >> 32;
    const std::size_t mask = slots_.size() - 1;
    std::size_t slot = hash & mask;
    while (slots_[slot].merged != free_slot &&
           (slots_[slot].left != left || slots_[slot].right != right))
        slot = (slot + 1) & mask;
    return slot;
}

const Merge* MergeTable::find(TokenId left, TokenId right) const {
    const Merge& merge = slots_[slot_of(left, right)];
    return merge.merged == free_slot ? nullptr : &merge;
}

void Merger::consider(const std::vector<TokenId>& symbols, std::uint32_t at) {
    const std::uint32_t right = next_[at];
    if (right == no_symbol)
        return;
    if (const Merge* merge = table_.find(symbols[at], symbols[right]))
        heap_.push_back({merge->rank, at, merge->left, merge->right, merge->merged});
}

void Merger::merge(std::vector<TokenId>& symbols) {
    CAKE_CHECK(symbols.size() < no_symbol, "a word of {} symbols is too long", symbols.size());
    const auto n = std::uint32_t(symbols.size());
    if (n < 2)
        return;

    next_.resize(n);
    previous_.resize(n);
    for (std::uint32_t i = 0; i < n; ++i) {
        next_[i] = i + 1 < n ? i + 1 : no_symbol;
        previous_[i] = i > 0 ? i - 1 : no_symbol;
    }
    heap_.clear();
    for (std::uint32_t i = 0; i < n; ++i)
        consider(symbols, i);
    std::make_heap(heap_.begin(), heap_.end(), std::greater<>{});

    const auto push = [&](std::uint32_t at) {
        const std::size_t before = heap_.size();
        consider(symbols, at);
        if (heap_.size() > before)
            std::push_heap(heap_.begin(), heap_.end(), std::greater<>{});
    };
    while (!heap_.empty()) {
        std::pop_heap(heap_.begin(), heap_.end(), std::greater<>{});
        const Candidate best = heap_.back();
        heap_.pop_back();

        // Earlier merges may have taken either neighbour: then this candidate is out of date.
        const std::uint32_t left = best.at, right = next_[left];
        if (symbols[left] != best.left || right == no_symbol || symbols[right] != best.right)
            continue;

        symbols[left] = best.merged;
        symbols[right] = swallowed;
        next_[left] = next_[right];
        if (next_[left] != no_symbol)
            previous_[next_[left]] = left;
        if (previous_[left] != no_symbol)
            push(previous_[left]);
        push(left);
    }
    std::erase(symbols, swallowed);
}

}  // namespace cake
