// GGUF v2 and v3 files. The format is described at the top of gguf.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/tensor.h"
#include "io/mapped_file.h"

namespace cake {

// A metadata value. Arrays keep one element type (booleans count as integers); arrays of arrays
// are refused.
using GgufValue =
    std::variant<std::uint64_t, std::int64_t, double, bool, std::string, std::vector<std::int64_t>,
                 std::vector<double>, std::vector<std::string>>;

struct GgufTensor {
    std::string name;  // GGUF's own ("blk.0.attn_q.weight")
    DType dtype;
    Shape shape;            // row-major: GGUF's dimensions reversed
    const std::byte* data;  // in the mapped file, bytes_of(dtype, shape.elements()) of them
};

// What stands in a file. Tensors point into the bytes that were parsed.
struct GgufContents {
    std::vector<std::pair<std::string, GgufValue>> metadata;  // sorted by key, keys unique
    std::vector<GgufTensor> tensors;  // in the file's order; names unique, bytes disjoint
};

// Throws usage errors that name `file` for whatever is not a sound GGUF file.
GgufContents parse_gguf(std::span<const std::byte> bytes, const std::string& file);

class GgufFile {
public:
    explicit GgufFile(const std::string& path);

    const MappedFile& file() const { return file_; }
    const std::vector<GgufTensor>& tensors() const { return contents_.tensors; }

    // Metadata: nothing where the key is absent; a usage error naming file and key where its type
    // differs (integers of any width convert to each other where the value fits).
    const GgufValue* find(std::string_view key) const;
    std::optional<std::int64_t> integer(std::string_view key) const;
    std::optional<double> number(std::string_view key) const;  // integers convert
    std::optional<bool> boolean(std::string_view key) const;
    std::optional<std::string> string(std::string_view key) const;
    const std::vector<std::string>* strings(std::string_view key) const;
    const std::vector<std::int64_t>* integers(std::string_view key) const;
    const std::vector<double>* numbers(std::string_view key) const;
    std::vector<std::string> keys() const;

private:
    template <typename T>
    const T* get(std::string_view key, std::string_view wanted) const;

    MappedFile file_;
    GgufContents contents_;
};

}  // namespace cake
