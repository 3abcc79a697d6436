// Which build of the program runs.
#pragma once

#include <string>

namespace cake {

// The first 16 hex digits of the linker's digest of the running program: equal where the files are. Empty where the
// linker made none.
std::string build_id();

}  // namespace cake
