#include "eval/ruler.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "eval/row_files.h"

namespace cake {

std::vector<RulerRow> read_ruler_rows(const std::string& path) {
    std::vector<RulerRow> rows;
    for_each_row(path, [&](const nlohmann::json& object, std::int64_t line) {
        RulerRow row{text_of(object, "input"), texts_of(value_of(object, "outputs"), "outputs"),
                     line};
        if (row.outputs.empty())
            throw usage_error("there is nothing to find: 'outputs' is empty");
        rows.push_back(std::move(row));
    });
    return rows;
}

}  // namespace cake
