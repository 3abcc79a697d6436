// "Did you mean ...?": the known word that takes the fewest edits.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace cake {

// Insertions, deletions and replacements of characters, and swaps of neighbours, from one to the
// other.
int edit_distance(std::string_view a, std::string_view b);

// The nearest of `known`, the first of equals; empty where `known` is. Of dotted words the last
// parts may agree too: "window" is near "policy.window".
std::string nearest(std::string_view word, std::span<const std::string> known);

}  // namespace cake
