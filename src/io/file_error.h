// Errors in files: every message names the file, what is wrong, and what to do.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace cake {

// A name out of a file, in quotes, fit for a terminal: long ones are cut, control bytes become '?'.
inline std::string quote(std::string_view text) {
    constexpr std::size_t most = 96;
    std::string out = "'";
    for (char c : text.substr(0, most))
        out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    return out + (text.size() > most ? "...'" : "'");
}

// What a file says of itself cannot be true: it was cut short or damaged on its way here.
template <typename... Args>
[[nodiscard]] Error damaged(const std::string& file, fmt::format_string<Args...> format,
                            Args&&... args) {
    return usage_error("{}: {}; the file is incomplete or damaged, fetch it again", file,
                       fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace cake
