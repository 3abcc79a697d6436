#include "base/error.h"

#include <cstring>

namespace cake::detail {

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
    const char* name = std::strrchr(file, '/');
    throw Error(
        fmt::format("{} ({} is false, {}:{})", message, condition, name ? name + 1 : file, line));
}

}  // namespace cake::detail
