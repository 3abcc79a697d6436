// kernels/cuda/device.h on the host: what differs from plain calls.
#include "kernels/cuda/device.h"

#include <cmath>
#include <vector>

#include <gmock/gmock.h>

#include "base/error.h"
#include "kernels/cuda/norm.h"

namespace cake::gpu {
namespace {

TEST(EmulatedDevice, GivesMemoryThatIsNaN) {
    auto* data = static_cast<float*>(allocate(400));
    for (int i = 0; i < 100; ++i)
        EXPECT_TRUE(std::isnan(data[i]));
    free(data);
}

TEST(EmulatedDevice, RunsACapturedGraphWhenItIsReplayedAndNotBefore) {
    const OwnedQueue queue = make_queue();
    alignas(16) float x[4] = {1, 2, 3, 4}, delta[4] = {10, 10, 10, 10}, copied[4] = {};
    begin_capture(queue.get());
    add(queue.get(), DType::F32, x, delta, 4);
    copy(queue.get(), copied, x, sizeof(x));
    const OwnedGraph graph = end_capture(queue.get());
    EXPECT_THAT(x, testing::ElementsAre(1, 2, 3, 4));

    delta[0] = 20;  // a graph reads what its pointers hold
    replay(queue.get(), graph);
    replay(queue.get(), graph);
    EXPECT_THAT(x, testing::ElementsAre(41, 22, 23, 24));
    EXPECT_THAT(copied, testing::ElementsAre(41, 22, 23, 24));
}

TEST(EmulatedDevice, RefusesToWaitForAQueueThatIsCaptured) {
    const OwnedQueue queue = make_queue();
    begin_capture(queue.get());
    EXPECT_THROW(synchronize(queue.get()), Error);
    EXPECT_THROW(begin_capture(queue.get()), Error);
    end_capture(queue.get());
    EXPECT_THROW(end_capture(queue.get()), Error);
}

TEST(EmulatedDevice, MultipliesIntoF32FromBf16) {
    const std::vector<bf16> x = {to_bf16(1), to_bf16(2)}, w = {to_bf16(3), to_bf16(0.001f)};
    const float bias = 0.5f;
    float out = 0;
    Gemm gemm;
    gemm.run(nullptr, {.x = x.data(),
                       .weight = w.data(),
                       .bias = &bias,
                       .out = &out,
                       .m = 1,
                       .n = 1,
                       .k = 2,
                       .in = DType::BF16,
                       .out_and_bias = DType::F32});
    EXPECT_FLOAT_EQ(out, 3.5f + 2 * to_float(to_bf16(0.001f)));
}

TEST(EmulatedDevice, OrdersTheTimesOfEvents) {
    const OwnedQueue queue = make_queue();
    const OwnedEvent begin = make_event(), end = make_event();
    record(begin, queue.get());
    record(end, queue.get());
    EXPECT_GE(seconds_between(begin, end), 0);
}

}  // namespace
}  // namespace cake::gpu
