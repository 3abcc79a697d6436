#include "eval/rouge.h"

#include <algorithm>
#include <set>
#include <unordered_map>
#include <vector>

#include "eval/python_text.h"

namespace cake {
namespace {

// A word's number, equal where words are.
using Word = int;
using Sentence = std::vector<Word>;
using WordNumbers = std::unordered_map<std::u32string, Word>;

std::vector<Sentence> sentences_of(std::u32string_view text, WordNumbers& numbers) {
    const auto number = [&](std::u32string_view word) {
        return numbers.try_emplace(std::u32string(word), Word(numbers.size())).first->second;
    };
    std::vector<Sentence> out;
    for (std::u32string_view part : split_at(text, U'.')) {
        if (part.empty())
            continue;
        Sentence& sentence = out.emplace_back();
        for (std::u32string_view word : split_at_spaces(part))
            sentence.push_back(number(word));
        if (sentence.empty())  // spaces alone: for Python's split(" ") one word, the empty one
            sentence.push_back(number(U""));
    }
    return out;
}

std::size_t different_words(const std::vector<Sentence>& sentences) {
    std::set<Word> words;
    for (const Sentence& sentence : sentences)
        words.insert(sentence.begin(), sentence.end());
    return words.size();
}

// Puts the words of a longest common subsequence into `found`. Of several such subsequences it is the one that the way
// back takes, which leaves a word of `b` out before one of `a`.
void add_common_subsequence(const Sentence& a, const Sentence& b, std::set<Word>& found) {
    const std::size_t width = b.size() + 1;
    std::vector<int> length((a.size() + 1) * width);  // [i, j]: of the first i and j words
    for (std::size_t i = 1; i <= a.size(); ++i)
        for (std::size_t j = 1; j <= b.size(); ++j)
            length[i * width + j] = a[i - 1] == b[j - 1] ? length[(i - 1) * width + j - 1] + 1
                                                         : std::max(length[(i - 1) * width + j],
                                                                    length[i * width + j - 1]);

    for (std::size_t i = a.size(), j = b.size(); i > 0 && j > 0;) {
        if (a[i - 1] == b[j - 1]) {
            found.insert(a[i - 1]);
            --i;
            --j;
        } else if (length[(i - 1) * width + j] > length[i * width + j - 1]) {
            --i;
        } else {
            --j;
        }
    }
}

}  // namespace

double rouge_l(std::string_view prediction, std::string_view reference) {
    WordNumbers numbers;
    const std::vector<Sentence> predicted = sentences_of(code_points(prediction), numbers),
                                wanted = sentences_of(code_points(reference), numbers);
    if (predicted.empty() || wanted.empty())
        return 0;

    std::set<Word> found;
    for (const Sentence& a : wanted)
        for (const Sentence& b : predicted)
            add_common_subsequence(a, b, found);

    const double r = double(found.size()) / double(different_words(wanted));
    const double p = double(found.size()) / double(different_words(predicted));
    return 2.0 * ((p * r) / (p + r + 1e-8));
}

}  // namespace cake
