#include "eval/longbench_files.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "eval/row_files.h"

namespace cake {
namespace {

using nlohmann::json;

Reference read_reference(const json& object) {
    Reference out;
    out.answers = texts_of(value_of(object, "answers"), "answers");
    if (out.answers.empty())
        throw usage_error("there are no answers to score by: 'answers' is empty");
    if (const json& classes = value_of(object, "all_classes"); !classes.is_null())
        out.all_classes = texts_of(classes, "all_classes");
    if (const auto length = object.find("length"); length != object.end()) {
        if (!length->is_number_integer())
            throw usage_error("'length' is no whole number");
        out.length = length->get<std::int64_t>();
    }
    return out;
}

LongBenchRow read_row(const json& object) {
    return {text_of(object, "input"), text_of(object, "context"), read_reference(object)};
}

Prediction read_prediction(const json& object) {
    return {text_of(object, "pred"), read_reference(object)};
}

template <typename Row>
std::vector<Row> read_rows(const std::string& path, Row (*read)(const json&)) {
    std::vector<Row> rows;
    for_each_row(path, [&](const json& object, std::int64_t line) {
        rows.push_back(read(object));
        rows.back().line = line;
    });
    return rows;
}

}  // namespace

std::vector<LongBenchRow> read_longbench_rows(const std::string& path) {
    return read_rows(path, read_row);
}

std::vector<Prediction> read_predictions(const std::string& path) {
    return read_rows(path, read_prediction);
}

std::string to_line(const Prediction& prediction) {
    nlohmann::ordered_json line;
    line["pred"] = prediction.pred;
    line["answers"] = prediction.reference.answers;
    line["all_classes"] = nullptr;
    if (prediction.reference.all_classes)
        line["all_classes"] = *prediction.reference.all_classes;
    if (prediction.reference.length)
        line["length"] = *prediction.reference.length;
    // Bytes that are no text become U+FFFD: an answer is not lost for them.
    return line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace cake
