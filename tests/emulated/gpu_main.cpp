// main() of test_engine_cuda: where there is no GPU nothing is run, and one line says why.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "kernels/backend.h"

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    if (const cake::CudaDevices devices = cake::cuda_devices();
        devices.count == 0 && !testing::GTEST_FLAG(list_tests)) {
        fmt::print("no GPU: {}\n", devices.why_none);
        return 0;
    }
    return RUN_ALL_TESTS();
}
