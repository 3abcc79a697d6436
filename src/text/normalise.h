// What happens to a text before it is cut: Unicode normal forms, and SentencePiece's spaces as Llama 2 writes them.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace cake {

enum class NormalForm { Nfc, Nfd, Nfkc, Nfkd };

// Puts a text in front, unless there is nothing to put it in front of.
struct PrependStep {
    std::string text;
};
struct ReplaceStep {
    std::string from;  // not empty
    std::string to;
};

using NormalizerStep = std::variant<NormalForm, PrependStep, ReplaceStep>;

// `text`: UTF-8. A usage error where the steps make far more of it than any sensible ones.
std::string normalise(const std::vector<NormalizerStep>& steps, std::string text);

// O(n log n) whatever the text. `text`: UTF-8.
std::string to_normal_form(NormalForm form, std::string_view text);

std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

}  // namespace cake
