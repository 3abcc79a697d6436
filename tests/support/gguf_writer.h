// Writes GGUF files for tests: a whole tiny model, or a few tensors.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "support/byte_writer.h"

namespace cake {

// ggml's number of a type that GGUF files may hold.
std::uint32_t ggml_type(DType dtype);

class GgufWriter {
public:
    // Versions 2 and 3 differ by the number alone.
    explicit GgufWriter(std::uint32_t version = 3) : version_(version) {}

    // Metadata, in the order of the calls.
    void integer(std::string_view key, std::uint32_t value);
    void number(std::string_view key, float value);
    void boolean(std::string_view key, bool value);
    void string(std::string_view key, std::string_view value);
    void strings(std::string_view key, std::span<const std::string> values);
    void integers(std::string_view key, std::span<const std::int32_t> values);
    void numbers(std::string_view key, std::span<const float> values);
    // Any value: ggml's number of its type, then its bytes.
    void raw(std::string_view key, std::uint32_t type, std::span<const std::byte> value);

    // `shape` row-major, [out, in] for a linear layer; `data` as it lies in the file.
    void tensor(std::string_view name, DType dtype, Shape shape, std::span<const std::byte> data);
    void tensor(std::string_view name, Shape shape, std::span<const float> data);

    std::vector<std::byte> bytes() const;
    void write(const std::string& path) const;

private:
    ByteWriter& entry(std::string_view key, std::uint32_t type);

    std::uint32_t version_;
    std::uint64_t n_metadata_ = 0;
    std::uint64_t n_tensors_ = 0;
    ByteWriter metadata_, tensors_, data_;
};

}  // namespace cake
