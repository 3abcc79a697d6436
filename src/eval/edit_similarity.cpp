#include "eval/edit_similarity.h"

#include <cmath>
#include <unordered_map>
#include <vector>

#include "eval/python_text.h"

namespace cake {
namespace {

// Where each character stands in `b`, ascending.
using Places = std::unordered_map<char32_t, std::vector<std::size_t>>;

Places places_in(std::u32string_view b) {
    Places places;
    for (std::size_t j = 0; j < b.size(); ++j)
        places[b[j]].push_back(j);
    if (b.size() >= 200) {
        const std::size_t most = b.size() / 100 + 1;
        std::erase_if(places, [&](const auto& entry) { return entry.second.size() > most; });
    }
    return places;
}

// [a_begin, a_end) of one text and [b_begin, b_end) of the other.
struct Range {
    std::size_t a_begin, a_end, b_begin, b_end;
};

struct Block {
    std::size_t a, b, size;
};

// The longest block within a range, the first of equals.
Block longest_block(std::u32string_view a, std::u32string_view b, const Places& places,
                    const Range& range) {
    Block best{range.a_begin, range.b_begin, 0};
    // Length of the block that ends at this character of `a` and the j-th of `b`, by j.
    std::unordered_map<std::size_t, std::size_t> lengths, before;
    for (std::size_t i = range.a_begin; i < range.a_end; ++i) {
        lengths.swap(before);
        lengths.clear();
        const auto found = places.find(a[i]);
        if (found == places.end())
            continue;
        for (const std::size_t j : found->second) {
            if (j < range.b_begin)
                continue;
            if (j >= range.b_end)
                break;
            const auto shorter = j > 0 ? before.find(j - 1) : before.end();
            const std::size_t size = shorter == before.end() ? 1 : shorter->second + 1;
            lengths[j] = size;
            if (size > best.size)
                best = {i + 1 - size, j + 1 - size, size};
        }
    }
    // Frequent characters begin no block, and make one longer.
    while (best.a > range.a_begin && best.b > range.b_begin && a[best.a - 1] == b[best.b - 1])
        best = {best.a - 1, best.b - 1, best.size + 1};
    while (best.a + best.size < range.a_end && best.b + best.size < range.b_end &&
           a[best.a + best.size] == b[best.b + best.size])
        ++best.size;
    return best;
}

}  // namespace

double sequence_ratio(std::u32string_view a, std::u32string_view b) {
    if (a.empty() && b.empty())
        return 1;
    const Places places = places_in(b);
    std::size_t matches = 0;
    std::vector<Range> open{{0, a.size(), 0, b.size()}};
    while (!open.empty()) {
        const Range range = open.back();
        open.pop_back();
        const Block block = longest_block(a, b, places, range);
        if (block.size == 0)
            continue;
        matches += block.size;
        open.push_back({range.a_begin, block.a, range.b_begin, block.b});
        open.push_back({block.a + block.size, range.a_end, block.b + block.size, range.b_end});
    }
    return 2.0 * double(matches) / double(a.size() + b.size());
}

int edit_similarity(std::string_view a, std::string_view b) {
    if (a == b)
        return 100;
    if (a.empty() || b.empty())
        return 0;
    return int(std::nearbyint(100 * sequence_ratio(code_points(a), code_points(b))));
}

}  // namespace cake
