// kernels/cuda/device.h on the host: what differs from plain calls.
#include "kernels/cuda/device.h"

#include <chrono>
#include <cstdlib>
#include <thread>
#include <vector>

#include <gmock/gmock.h>

#include "base/error.h"
#include "kernels/cuda/norm.h"
#include "simt/memory.h"

namespace cake::gpu {
namespace {

TEST(EmulatedDevice, GivesMemoryThatIsNaN) {
    void* data = allocate(400);
    float host[100] = {};
    copy(nullptr, host, data, sizeof(host));
    EXPECT_THAT(host, testing::Each(testing::IsNan()));
    free(data);
}

TEST(EmulatedDevice, EndsTheProgramWhereHostCodeTouchesItsMemory) {
    if (!simt::guards_device_memory())
        GTEST_SKIP() << "it is not guarded here";
    auto* data = static_cast<volatile float*>(allocate(400));
    EXPECT_DEATH(data[0] = 1, "host code has touched device memory");
    EXPECT_DEATH(std::exit(data[99] > 0), "host code has touched device memory");
    const float one = 1;
    float back = 0;
    copy(nullptr, const_cast<float*>(data), &one, sizeof(one));
    copy(nullptr, &back, const_cast<float*>(data), sizeof(back));
    EXPECT_EQ(back, 1);
    free(const_cast<float*>(data));
}

TEST(EmulatedDevice, GivesFreedMemoryAgainInPiecesThatDoNotOverlap) {
    std::vector<std::pair<char*, std::size_t>> pieces;
    for (std::size_t i = 0; i < 200; ++i) {
        const std::size_t bytes = 1 + i * 7919 % 5000;
        auto* data = static_cast<char*>(allocate(bytes));
        EXPECT_EQ(std::uintptr_t(data) % 256, 0u);
        for (const auto& [other, size] : pieces)
            EXPECT_TRUE(data + bytes <= other || other + size <= data);
        pieces.emplace_back(data, bytes);
        if (i % 3 == 2) {
            free(pieces[i / 3].first);
            pieces.erase(pieces.begin() + std::ptrdiff_t(i / 3));
        }
    }
    for (const auto& [data, size] : pieces)
        free(data);
    EXPECT_EQ(allocate(std::size_t(1) << 60), nullptr);
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
    gemm.run(nullptr, nullptr,
             {.x = x.data(),
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

TEST(EmulatedDevice, TellsTheSecondsBetweenEvents) {
    const OwnedQueue queue = make_queue();
    const OwnedEvent begin = make_event(), end = make_event();
    record(begin, queue.get());
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    record(end, queue.get());
    EXPECT_GE(seconds_between(begin, end), 0.002);
    EXPECT_EQ(seconds_between(end, begin), -seconds_between(begin, end));
}

// CUDA would not wait at all.
TEST(EmulatedDevice, RefusesToWaitForAnEventThatWasNotRecorded) {
    const OwnedQueue queue = make_queue();
    const OwnedEvent event = make_event();
    EXPECT_THROW(wait(queue.get(), event), Error);
    record(event, queue.get());
    EXPECT_NO_THROW(wait(queue.get(), event));
}

}  // namespace
}  // namespace cake::gpu
