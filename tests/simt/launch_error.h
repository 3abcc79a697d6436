// For tests of the machine: what it says of a kernel.
#pragma once

#include <string>

#include <gmock/gmock.h>

#include "base/error.h"
#include "kernels/cuda/kernel.h"

namespace cake::gpu {

// The message with which the launch ends; a test failure and "" where it ends well.
template <typename... Parameters, typename... Arguments>
std::string launch_error(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
                         Arguments... arguments) {
    try {
        launch(Queue(), kernel, grid, block, shared, arguments...);
    } catch (const Error& error) {
        return error.what();
    }
    ADD_FAILURE() << "the kernel ended well";
    return "";
}

}  // namespace cake::gpu
