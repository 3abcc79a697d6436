// ROUGE-L of two texts.
#pragma once

#include <string_view>

namespace cake {

// F of ROUGE-L at the level of summaries (Lin 2004, section 3.2), 0 to 1, as Python's `rouge` 1.0.1 computes it, by which
// LongBench scores: sentences end at '.', words at white space, and words are counted once however often they occur.
//
//   u      the union over all pairs of sentences of the words of their longest common subsequence
//   r, p   |u| / different words of the reference, of the prediction
//   f      2 p r / (p + r + 1e-8)
//
// 0 where either text has no sentence. Texts are UTF-8. Python's gives up with 0 where its recursion goes too deep
// (sentences of some thousand words); this does not.
double rouge_l(std::string_view prediction, std::string_view reference);

}  // namespace cake
