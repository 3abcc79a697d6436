// Reads little-endian values from bytes that may lie about what follows: each step is checked.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "io/file_error.h"

namespace cake {

static_assert(std::endian::native == std::endian::little, "the file formats are little-endian");

class ByteReader {
public:
    // `file` names the bytes in messages.
    ByteReader(std::span<const std::byte> bytes, const std::string& file)
        : bytes_(bytes), file_(file) {}

    std::size_t offset() const { return offset_; }
    std::size_t remaining() const { return bytes_.size() - offset_; }
    const std::string& file() const { return file_; }

    // The next value of a plain type. `what` completes "ends inside ...".
    template <typename T>
    T value(std::string_view what) {
        T out;
        std::memcpy(&out, take(sizeof(T), what).data(), sizeof(T));
        return out;
    }

    std::span<const std::byte> take(std::uint64_t n, std::string_view what) {
        if (n > remaining())
            throw damaged(file_, "ends inside {} at byte {} ({} bytes wanted, {} left)", what,
                          offset_, n, remaining());
        const auto out = bytes_.subspan(offset_, std::size_t(n));
        offset_ += std::size_t(n);
        return out;
    }

    std::string_view text(std::uint64_t n, std::string_view what) {
        const auto part = take(n, what);
        return {reinterpret_cast<const char*>(part.data()), part.size()};
    }

private:
    std::span<const std::byte> bytes_;
    std::size_t offset_ = 0;
    const std::string& file_;
};

}  // namespace cake
