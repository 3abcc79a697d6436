// Cuts a text into the words within which tokens are merged.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "text/pattern.h"

namespace cake {

// Cuts where a pattern matches. Hugging Face's names for what becomes of the matches.
struct SplitStep {
    enum class Matches { Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous };
    Pattern pattern;
    Matches matches = Matches::Isolated;
    bool invert = false;  // what does not match counts as the match
};

// SentencePiece's spaces: " " becomes "▁", and a word gets one in front.
struct MetaspaceStep {
    enum class Prepend { Never, First, Always };  // First: only at the very start of the text
    std::string replacement;
    Prepend prepend = Prepend::Always;
    bool split = true;  // cut in front of every replacement
};

// GPT-2's optional space in front of a word.
struct PrefixSpaceStep {};

using PreTokenizerStep = std::variant<SplitStep, MetaspaceStep, PrefixSpaceStep>;

// Words as ranges of a text.
struct Words {
    std::string text;
    std::vector<TextRange> ranges;  // in order, none empty
};

// Applies the steps one after another, each to every word the steps before it left. `at_start`: whether `text` is
// the beginning of what the user gave.
Words pretokenize(const std::vector<PreTokenizerStep>& steps, std::string text, bool at_start);

// A step that cuts at digits, each by itself or in runs.
SplitStep digits_step(bool individual);
// GPT-2's pattern, which byte-level pre-tokenizers have built in.
SplitStep gpt2_step();

}  // namespace cake
