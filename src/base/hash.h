// 64-bit FNV-1a: digests of kept positions and budgets, the same on every machine.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace cake {

inline std::uint64_t fnv1a(std::span<const std::byte> bytes,
                           std::uint64_t hash = 0xcbf29ce484222325u) {
    for (std::byte b : bytes)
        hash = (hash ^ std::uint64_t(b)) * 0x100000001b3u;
    return hash;
}

inline std::uint64_t fnv1a(std::string_view text) { return fnv1a(std::as_bytes(std::span(text))); }

inline std::string hex64(std::uint64_t hash) { return fmt::format("{:016x}", hash); }

}  // namespace cake
