#include "support/gguf_writer.h"

#include <fstream>

namespace cake {
namespace {

constexpr std::size_t alignment = 32;  // bytes; the format's default
enum Type : std::uint32_t { U32 = 4, I32 = 5, F32 = 6, Bool = 7, String = 8, Array = 9 };

}  // namespace

std::uint32_t ggml_type(DType dtype) {
    switch (dtype) {
        case DType::F32: return 0;
        case DType::F16: return 1;
        case DType::Q4_0: return 2;
        case DType::Q4_1: return 3;
        case DType::Q5_0: return 6;
        case DType::Q5_1: return 7;
        case DType::Q8_0: return 8;
        case DType::Q4_K: return 12;
        case DType::Q5_K: return 13;
        case DType::Q6_K: return 14;
        case DType::U8: return 24;
        case DType::I32: return 26;
        case DType::I64: return 27;
        case DType::F64: return 28;
        case DType::BF16: return 30;
    }
    return 0;
}

ByteWriter& GgufWriter::entry(std::string_view key, std::uint32_t type) {
    ++n_metadata_;
    return metadata_.put_string(key).put(type);
}

void GgufWriter::integer(std::string_view key, std::uint32_t value) { entry(key, U32).put(value); }
void GgufWriter::number(std::string_view key, float value) { entry(key, F32).put(value); }
void GgufWriter::boolean(std::string_view key, bool value) {
    entry(key, Bool).put(std::uint8_t(value));
}
void GgufWriter::string(std::string_view key, std::string_view value) {
    entry(key, String).put_string(value);
}

void GgufWriter::strings(std::string_view key, std::span<const std::string> values) {
    entry(key, Array).put(std::uint32_t(String)).put(std::uint64_t(values.size()));
    for (const std::string& value : values)
        metadata_.put_string(value);
}

void GgufWriter::integers(std::string_view key, std::span<const std::int32_t> values) {
    entry(key, Array).put(std::uint32_t(I32)).put(std::uint64_t(values.size()));
    metadata_.put_bytes(std::as_bytes(values));
}

void GgufWriter::numbers(std::string_view key, std::span<const float> values) {
    entry(key, Array).put(std::uint32_t(F32)).put(std::uint64_t(values.size()));
    metadata_.put_bytes(std::as_bytes(values));
}

void GgufWriter::raw(std::string_view key, std::uint32_t type, std::span<const std::byte> value) {
    entry(key, type).put_bytes(value);
}

void GgufWriter::tensor(std::string_view name, DType dtype, Shape shape,
                        std::span<const std::byte> data) {
    CAKE_CHECK(data.size() == bytes_of(dtype, shape.elements()), "{} bytes for {} {}", data.size(),
               shape.str(), cake::name(dtype));
    ++n_tensors_;
    tensors_.put_string(name).put(std::uint32_t(shape.rank()));
    for (int i = shape.rank() - 1; i >= 0; --i)
        tensors_.put(std::uint64_t(shape[i]));
    tensors_.put(ggml_type(dtype)).put(std::uint64_t(data_.size()));
    data_.put_bytes(data).pad_to(alignment);
}

void GgufWriter::tensor(std::string_view name, Shape shape, std::span<const float> data) {
    tensor(name, DType::F32, shape, std::as_bytes(data));
}

std::vector<std::byte> GgufWriter::bytes() const {
    ByteWriter out;
    out.put_text("GGUF").put(version_).put(n_tensors_).put(n_metadata_);
    out.put_bytes(metadata_.bytes()).put_bytes(tensors_.bytes()).pad_to(alignment);
    return out.put_bytes(data_.bytes()).bytes();
}

void GgufWriter::write(const std::string& path) const {
    const std::vector<std::byte> all = bytes();
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(all.data()), std::streamsize(all.size()));
    out.close();
    CAKE_CHECK(out, "cannot write {}", path);
}

}  // namespace cake
