#include "eval/needle_scores.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <tuple>

#include <fmt/format.h>

namespace cake {
namespace {

// Trials of one cell have it in common; a data file's rows have different lengths.
auto cell_of(const NeedleCase& which) {
    return std::tuple(which.form, which.depth ? which.length : 0, which.depth, which.needles);
}

// Scores of one row of the table have it in common.
auto row_of(const NeedleScore& score) {
    return std::tuple(score.policy, score.cache_size, score.which.form, score.which.needles,
                      score.which.length);
}

// A column is a depth; -1: of data files.
int column_of(const NeedleScore& score) { return score.which.depth.value_or(-1); }

std::string size_text(int cache_size) { return cache_size == 0 ? "-" : std::to_string(cache_size); }

}  // namespace

std::vector<NeedleScore> needle_scores(const Policy& policy, std::span<const NeedlePrompt> prompts,
                                       const std::map<std::string, std::string>& answers) {
    std::vector<NeedleScore> out;
    for (const NeedlePrompt& prompt : prompts) {
        const auto answer = answers.find(prompt.which.id());
        if (answer == answers.end())
            continue;
        auto score = std::ranges::find_if(
            out, [&](const NeedleScore& s) { return cell_of(s.which) == cell_of(prompt.which); });
        if (score == out.end()) {
            out.push_back(
                {policy.name, policy.keeps_everything() ? 0 : policy.cache_size, prompt.which});
            score = std::prev(out.end());
        }
        score->which.length = std::max(score->which.length, prompt.which.length);
        ++score->trials;
        score->score += part_found(answer->second, prompt.answers);
    }
    for (NeedleScore& score : out)
        score.score /= score.trials;
    return out;
}

std::string needle_table(std::span<const NeedleScore> scores) {
    std::set<int> columns;
    for (const NeedleScore& score : scores)
        columns.insert(column_of(score));
    std::string out = "| policy | C | form | needles | length |";
    for (int depth : columns)
        out += depth < 0 ? " all rows |" : fmt::format(" {} % deep |", depth);
    out += " mean |\n|---|--:|---|--:|--:|";
    for (std::size_t i = 0; i <= columns.size(); ++i)
        out += "--:|";
    out += "\n";
    for (auto first = scores.begin(); first != scores.end();) {
        const auto last = std::find_if(
            first, scores.end(), [&](const NeedleScore& s) { return row_of(s) != row_of(*first); });
        out +=
            fmt::format("| {} | {} | {} | {} | {} |", first->policy, size_text(first->cache_size),
                        first->which.form, first->which.needles, first->which.length);
        double sum = 0;
        for (int depth : columns) {
            const auto cell = std::find_if(
                first, last, [&](const NeedleScore& s) { return column_of(s) == depth; });
            out += cell == last ? " |" : fmt::format(" {:.1f} |", 100 * cell->score);
            sum += cell == last ? 0 : cell->score;
        }
        out += fmt::format(" {:.1f} |\n", 100 * sum / double(std::distance(first, last)));
        first = last;
    }
    return out;
}

std::string needle_csv(std::span<const NeedleScore> scores) {
    std::string out = "policy,cache_size,form,length,depth,needles,trials,score\n";
    for (const NeedleScore& s : scores)
        out += fmt::format("{},{},{},{},{},{},{},{:.6f}\n", s.policy, s.cache_size, s.which.form,
                           s.which.length, s.which.depth ? std::to_string(*s.which.depth) : "",
                           s.which.needles, s.trials, s.score);
    return out;
}

}  // namespace cake
