// How alike two texts are, character by character.
#pragma once

#include <string_view>

namespace cake {

// 2 M / T, 0 to 1, as difflib.SequenceMatcher(None, a, b).ratio(): M characters in matching blocks (the longest one, then
// those on either side of it), T of both texts. Its "autojunk" is kept: of a `b` of 200 characters or more those that make
// up over 1 % of it begin no block. 1 for two empty texts.
double sequence_ratio(std::u32string_view a, std::u32string_view b);

// fuzzywuzzy's ratio: the same as a whole number from 0 to 100, halves to the even one; 0 where one text is empty, 100 where
// both are. Texts are UTF-8.
int edit_similarity(std::string_view a, std::string_view b);

}  // namespace cake
