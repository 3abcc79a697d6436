#include "base/nearest.h"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

namespace cake {
namespace {

std::string_view last_part(std::string_view path) {
    return path.substr(path.find_last_of('.') + 1);
}

}  // namespace

int edit_distance(std::string_view a, std::string_view b) {
    // Rows of the usual table: distances of a's first i characters to each beginning of b.
    std::vector<int> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j)
        row[j] = int(j);
    for (std::size_t i = 1; i <= a.size(); ++i) {
        before = std::exchange(above, row);
        row[0] = int(i);
        for (std::size_t j = 1; j <= b.size(); ++j) {
            row[j] =
                std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1])});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = std::min(row[j], before[j - 2] + 1);
        }
    }
    return row[b.size()];
}

std::string nearest(std::string_view word, std::span<const std::string> known) {
    word = word.substr(0, 64);  // a longer one is no misspelling
    std::string best;
    int least = std::numeric_limits<int>::max();
    for (const std::string& candidate : known) {
        const int whole = edit_distance(word, candidate);
        const int parts = 1 + edit_distance(last_part(word), last_part(candidate));
        const int distance = std::min(whole, parts);
        if (distance >= least)
            continue;
        least = distance;
        best = candidate;
    }
    return best;
}

}  // namespace cake
