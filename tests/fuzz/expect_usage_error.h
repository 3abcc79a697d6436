// Hostile input may end in one way besides success: a usage error.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "base/error.h"

namespace cake {

template <typename Action>
void expect_success_or_usage_error(Action&& action) {
    try {
        action();
    } catch (const Error& error) {
        if (error.code() == ExitCode::Usage)
            return;
        std::fprintf(stderr, "not a usage error: %s\n", error.what());
        std::abort();
    }
}

}  // namespace cake
