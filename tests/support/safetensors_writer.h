// Writes safetensors files for tests: a whole tiny model, or a few tensors.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "support/byte_writer.h"

namespace cake {

class SafetensorsWriter {
public:
    // `data` as it lies in the file.
    void tensor(std::string_view name, std::string_view type, Shape shape,
                std::span<const std::byte> data);
    // Floats, rounded to `dtype` (F32, BF16 or F16).
    void tensor(std::string_view name, Shape shape, std::span<const float> data,
                DType dtype = DType::F32);

    std::vector<std::byte> bytes() const;
    void write(const std::string& path) const;

private:
    std::string header_;
    ByteWriter data_;
};

// A file of any header, be it wrong, and any data.
std::vector<std::byte> safetensors_bytes(std::string_view header,
                                         std::span<const std::byte> data = {});

}  // namespace cake
