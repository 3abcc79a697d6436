// Files of LongBench: rows of a task, and a model's answers to them, a JSON object a line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace cake {

// What an answer is judged by. Rows and answers both carry it.
struct Reference {
    std::vector<std::string> answers;                     // one or more; the best match counts
    std::optional<std::vector<std::string>> all_classes;  // of a classification
    std::optional<std::int64_t> length;                   // words of the context
    bool operator==(const Reference&) const = default;
};

// {"input", "context", "answers", "length", "all_classes"}; other keys are passed over.
struct LongBenchRow {
    std::string input, context;
    Reference reference;
    std::int64_t line = 0;  // of the file, from 1
};

// {"pred", "answers", "all_classes", "length"}: the official form, which the official scorer reads.
struct Prediction {
    std::string pred;
    Reference reference;
    std::int64_t line = 0;  // of the file, from 1
};

// All rows of a file, at least one; lines of white space are passed over. Usage errors name file and line: no JSON object, a
// key that is missing or of another type, no answers, a last line that was cut short, a file that another job is writing.
std::vector<LongBenchRow> read_longbench_rows(const std::string& path);
std::vector<Prediction> read_predictions(const std::string& path);

// A line of a file of answers, its newline included.
std::string to_line(const Prediction& prediction);

}  // namespace cake
