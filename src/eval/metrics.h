// LongBench's metrics: one answer of a model against one reference, 0 to 1, as the official metrics.py computes them.
// Texts are UTF-8.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace cake {

enum class Metric { TokenF1, RougeL, Classification, Retrieval, Count, EditSimilarity };

// By its name in configs/evaluations: token_f1, rouge_l, classification, retrieval, count, edit_similarity.
std::optional<Metric> metric_named(std::string_view name);

// F1 of the words, after small letters, without ASCII punctuation and articles (SQuAD's).
double token_f1(std::string_view prediction, std::string_view reference);

// 1 / n where the reference is among the n classes that the prediction names; names that are parts of the reference's do
// not count, save that after one such name the next in the list does, a slip of the official code that its figures contain.
double classification_score(std::string_view prediction, std::string_view reference,
                            std::span<const std::string> classes);

// The part of the prediction's numbers that is the reference's: of "Paragraph N" its N. Usage error where the reference
// is none.
double retrieval_score(std::string_view prediction, std::string_view reference);
// The part of the prediction's numbers that is the reference.
double count_score(std::string_view prediction, std::string_view reference);

// edit_similarity / 100 of the prediction's first line that has no '`', '#' or "//", as of a comment or a fence.
double code_similarity(std::string_view prediction, std::string_view reference);

// `classes`: those of a classification.
double metric_score(Metric metric, std::string_view prediction, std::string_view reference,
                    std::span<const std::string> classes);

}  // namespace cake
