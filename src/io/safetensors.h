// Hugging Face's safetensors files. The format is described at the top of safetensors.cpp.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/tensor.h"
#include "io/mapped_file.h"

namespace cake {

struct SafetensorsTensor {
    std::string name;
    std::string stored;          // the type as the file spells it: "BF16", "F8_E4M3"
    std::optional<DType> dtype;  // nothing where DType has no such type
    Shape shape;
    std::span<const std::byte> data;
};

// Tensors in the order of their data; names are unique, bytes disjoint. They point into `bytes`.
// Throws usage errors that name `file` for whatever is not a sound safetensors file.
std::vector<SafetensorsTensor> parse_safetensors(std::span<const std::byte> bytes,
                                                 const std::string& file);

class SafetensorsFile {
public:
    explicit SafetensorsFile(const std::string& path)
        : file_(path), tensors_(parse_safetensors(file_.bytes(), path)) {}
    const MappedFile& file() const { return file_; }
    const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }

private:
    MappedFile file_;
    std::vector<SafetensorsTensor> tensors_;
};

}  // namespace cake
