// Expects a usage error and looks at its message.
#pragma once

#include <string>

#include <gmock/gmock.h>

#include "base/error.h"

namespace cake {

// The message of the usage error that `action` throws; a test failure and "" if it throws none.
template <typename Action>
std::string usage_message(Action&& action) {
    try {
        action();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::Usage) << error.what();
        return error.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
}

}  // namespace cake
