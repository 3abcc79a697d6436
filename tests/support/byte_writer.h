// Bytes put together value by value, little-endian: files of tests, the broken ones too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace cake {

class ByteWriter {
public:
    // A plain value as it lies in memory.
    template <typename T>
    ByteWriter& put(T value) {
        static_assert(std::is_trivially_copyable_v<T>);
        return put_bytes(std::as_bytes(std::span(&value, 1)));
    }
    ByteWriter& put_bytes(std::span<const std::byte> bytes) {
        bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
        return *this;
    }
    ByteWriter& put_text(std::string_view text) {
        return put_bytes(std::as_bytes(std::span(text.data(), text.size())));
    }
    // GGUF's string: its length as 64 bits, then its bytes.
    ByteWriter& put_string(std::string_view text) {
        return put(std::uint64_t(text.size())).put_text(text);
    }
    ByteWriter& pad_to(std::size_t multiple) {
        bytes_.resize((bytes_.size() + multiple - 1) / multiple * multiple);
        return *this;
    }
    std::size_t size() const { return bytes_.size(); }
    const std::vector<std::byte>& bytes() const { return bytes_; }

private:
    std::vector<std::byte> bytes_;
};

}  // namespace cake
