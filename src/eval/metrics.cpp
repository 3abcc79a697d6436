#include "eval/metrics.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "eval/edit_similarity.h"
#include "eval/python_text.h"
#include "eval/rouge.h"
#include "io/file_error.h"

namespace cake {
namespace {

constexpr std::array<std::pair<std::string_view, Metric>, 6> metric_names{{
    {"token_f1", Metric::TokenF1},
    {"rouge_l", Metric::RougeL},
    {"classification", Metric::Classification},
    {"retrieval", Metric::Retrieval},
    {"count", Metric::Count},
    {"edit_similarity", Metric::EditSimilarity},
}};

bool is_ascii_punctuation(char32_t c) {
    return (c >= U'!' && c <= U'/') || (c >= U':' && c <= U'@') || (c >= U'[' && c <= U'`') ||
           (c >= U'{' && c <= U'~');
}

bool is_article(std::u32string_view word) {
    return word == U"a" || word == U"an" || word == U"the";
}

// The words of a text, as SQuAD compares them, and how often each occurs.
std::map<std::u32string, int> counted_words(std::string_view text) {
    std::u32string plain = python_lower(code_points(text));
    std::erase_if(plain, is_ascii_punctuation);

    // An article is a whole run of word characters; "a–z" loses its "a".
    std::u32string rest;
    for (std::size_t at = 0; at < plain.size();) {
        std::size_t end = at;
        while (end < plain.size() && is_python_word(plain[end]))
            ++end;
        const auto word = std::u32string_view(plain).substr(at, end - at);
        rest += is_article(word) ? U" " : word;
        if (end < plain.size())
            rest += plain[end];
        at = end + 1;
    }

    std::map<std::u32string, int> counts;
    for (std::u32string_view word : split_at_spaces(rest))
        ++counts[std::u32string(word)];
    return counts;
}

int total(const std::map<std::u32string, int>& counts) {
    int sum = 0;
    for (const auto& [word, n] : counts)
        sum += n;
    return sum;
}

double part_of_numbers(std::string_view text, std::u32string_view wanted) {
    const std::u32string all = code_points(text);
    const auto numbers = runs_of_digits(all);
    return numbers.empty() ? 0
                           : double(std::ranges::count(numbers, wanted)) / double(numbers.size());
}

// The text behind the line breaks that it begins with.
std::string_view without_breaks_in_front(std::string_view text) {
    return text.substr(std::min(text.find_first_not_of('\n'), text.size()));
}

}  // namespace

std::optional<Metric> metric_named(std::string_view name) {
    for (const auto& [known, metric] : metric_names)
        if (known == name)
            return metric;
    return {};
}

double token_f1(std::string_view prediction, std::string_view reference) {
    const auto predicted = counted_words(prediction), wanted = counted_words(reference);
    int same = 0;
    for (const auto& [word, n] : predicted)
        if (const auto found = wanted.find(word); found != wanted.end())
            same += std::min(n, found->second);
    if (same == 0)
        return 0;
    const double precision = double(same) / total(predicted), recall = double(same) / total(wanted);
    return (2 * precision * recall) / (precision + recall);
}

double classification_score(std::string_view prediction, std::string_view reference,
                            std::span<const std::string> classes) {
    std::vector<std::string_view> named;
    for (const std::string& name : classes)
        if (prediction.find(name) != std::string_view::npos)
            named.push_back(name);
    // The official loop removes from the list that it walks over, and so passes over the name behind each removed one.
    for (std::size_t i = 0; i < named.size(); ++i)
        if (named[i] != reference && reference.find(named[i]) != std::string_view::npos)
            named.erase(std::ranges::find(named, named[i]));
    return std::ranges::count(named, reference) > 0 ? 1.0 / double(named.size()) : 0;
}

double retrieval_score(std::string_view prediction, std::string_view reference) {
    constexpr std::u32string_view before = U"Paragraph ";
    const std::u32string text = code_points(reference);
    for (std::size_t at = text.find(before); at != std::u32string::npos;
         at = text.find(before, at + 1)) {
        const std::u32string_view rest = std::u32string_view(text).substr(at + before.size());
        if (!rest.empty() && is_python_digit(rest.front()))
            return part_of_numbers(prediction, runs_of_digits(rest).front());
    }
    throw usage_error("the answer {} is not of the form 'Paragraph N'", quote(reference));
}

double count_score(std::string_view prediction, std::string_view reference) {
    return part_of_numbers(prediction, code_points(reference));
}

double code_similarity(std::string_view prediction, std::string_view reference) {
    std::string_view rest = without_breaks_in_front(prediction);
    for (;;) {
        const std::size_t end = rest.find('\n');
        const std::string_view line = rest.substr(0, end);
        if (line.find_first_of("`#") == std::string_view::npos &&
            line.find("//") == std::string_view::npos)
            return edit_similarity(line, reference) / 100.0;
        if (end == std::string_view::npos)
            return edit_similarity("", reference) / 100.0;
        rest.remove_prefix(end + 1);
    }
}

double metric_score(Metric metric, std::string_view prediction, std::string_view reference,
                    std::span<const std::string> classes) {
    switch (metric) {
        case Metric::TokenF1: return token_f1(prediction, reference);
        case Metric::RougeL: return rouge_l(prediction, reference);
        case Metric::Classification: return classification_score(prediction, reference, classes);
        case Metric::Retrieval: return retrieval_score(prediction, reference);
        case Metric::Count: return count_score(prediction, reference);
        case Metric::EditSimilarity: return code_similarity(prediction, reference);
    }
    return 0;
}

}  // namespace cake
