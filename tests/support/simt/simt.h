// What kernels/cuda/kernel.h includes instead of CUDA's headers: a .cu then is C++ for the host (machine.h says what
// runs it).
#pragma once

#include <functional>
#include <tuple>

#include "kernels/cuda/launch.h"
#include "simt/intrinsics.h"
#include "simt/machine.h"
#include "simt/tensor_core.h"
#include "simt/types.h"

// The address of a static variable names the array; the machine gives each block its own.
#define CAKE_SHARED(type, name, ...)                                                          \
    static char cake_tag_of_##name;                                                           \
    auto& name = *::cake::simt::detail::shared<::cake::simt::detail::Same<type __VA_ARGS__>>( \
        &cake_tag_of_##name, #name)
#define CAKE_DYNAMIC_SHARED(type, name) \
    type* name = static_cast<type*>(::cake::simt::dynamic_shared())

namespace cake {

namespace simt::detail {
template <typename T>
using Same = T;
template <typename T>
T* shared(const void* tag, const char* name) {
    return static_cast<T*>(shared_array(tag, sizeof(T), name));
}
}  // namespace simt::detail

namespace gpu {

// Runs the work now or, where the queue is being captured, when the graph is replayed (device.cpp).
void put(const LaunchSite& site, std::function<void()> work);

template <typename... Parameters, typename... Arguments>
void launch(LaunchSite site, void (*kernel)(Parameters...), dim3 grid, dim3 block,
            std::size_t shared_bytes, Arguments... arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0)
        return;
    put(site, [=, values = std::tuple<Parameters...>(static_cast<Parameters>(arguments)...)] {
        auto call = [&] { std::apply(kernel, values); };
        simt::run(
            {grid, block, shared_bytes},
            [](void* of_call) { (*static_cast<decltype(call)*>(of_call))(); }, &call);
    });
}

}  // namespace gpu
}  // namespace cake
