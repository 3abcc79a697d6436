#include "support/safetensors_writer.h"

#include <fstream>

namespace cake {

void SafetensorsWriter::tensor(std::string_view name, std::string_view type, Shape shape,
                               std::span<const std::byte> data) {
    header_ += fmt::format(R"({}"{}":{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})",
                           header_.empty() ? "" : ",", name, type, shape.str(), data_.size(),
                           data_.size() + data.size());
    data_.put_bytes(data);
}

void SafetensorsWriter::tensor(std::string_view name, Shape shape, std::span<const float> data,
                               DType dtype) {
    CAKE_CHECK(std::int64_t(data.size()) == shape.elements(), "{} values for {}", data.size(),
               shape.str());
    ByteWriter out;
    for (float x : data) {
        if (dtype == DType::BF16)
            out.put(to_bf16(x));
        else if (dtype == DType::F16)
            out.put(to_f16(x));
        else
            out.put(x);
    }
    const std::string_view type = dtype == DType::BF16  ? "BF16"
                                  : dtype == DType::F16 ? "F16"
                                                        : "F32";
    tensor(name, type, shape, out.bytes());
}

std::vector<std::byte> safetensors_bytes(std::string_view header, std::span<const std::byte> data) {
    return ByteWriter().put_string(header).put_bytes(data).bytes();
}

std::vector<std::byte> SafetensorsWriter::bytes() const {
    std::string header = "{" + header_ + "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');  // data begins aligned, as the library does it
    return safetensors_bytes(header, data_.bytes());
}

void SafetensorsWriter::write(const std::string& path) const {
    const std::vector<std::byte> all = bytes();
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(all.data()), std::streamsize(all.size()));
    out.close();
    CAKE_CHECK(out, "cannot write {}", path);
}

}  // namespace cake
