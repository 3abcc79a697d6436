// Files of RULER's needle tasks (NVIDIA/RULER, niah.py), a JSON object a line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cake {

// {"input", "outputs"}; other keys are passed over.
struct RulerRow {
    std::string input;                 // the whole prompt
    std::vector<std::string> outputs;  // what an answer must contain; at least one
    std::int64_t line = 0;             // of the file, from 1
};

// All rows, at least one. Usage errors: as of for_each_row (row_files.h), a row without outputs.
std::vector<RulerRow> read_ruler_rows(const std::string& path);

}  // namespace cake
