// kernels/cuda/device.h on the host: what differs from plain calls.
#include "kernels/cuda/device.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <initializer_list>
#include <thread>
#include <vector>

#include <gmock/gmock.h>

#include "base/error.h"
#include "kernels/cuda/norm.h"
#include "simt/memory.h"
#include "simt/queues.h"

namespace cake::gpu {
namespace {

// Floats that host and device see.
struct Pinned {
    explicit Pinned(std::initializer_list<float> of) : n(of.size()) {
        std::copy(of.begin(), of.end(), floats);
    }
    ~Pinned() { free_pinned(floats); }
    Pinned(const Pinned&) = delete;
    Pinned& operator=(const Pinned&) = delete;
    std::vector<float> values() const { return {floats, floats + n}; }

    std::size_t n;
    float* const floats = static_cast<float*>(allocate_pinned(n * sizeof(float)));
};

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
    const Pinned x({1, 2, 3, 4}), delta({10, 10, 10, 10}), copied({0, 0, 0, 0});
    begin_capture(queue.get());
    add(queue.get(), DType::F32, x.floats, delta.floats, 4);
    copy(queue.get(), copied.floats, x.floats, 4 * sizeof(float));
    const OwnedGraph graph = end_capture(queue.get());
    EXPECT_THAT(x.values(), testing::ElementsAre(1, 2, 3, 4));

    delta.floats[0] = 20;  // a graph reads what its pointers hold
    replay(queue.get(), graph);
    replay(queue.get(), graph);
    EXPECT_THAT(x.values(), testing::ElementsAre(41, 22, 23, 24));
    EXPECT_THAT(copied.values(), testing::ElementsAre(41, 22, 23, 24));
}

// What ends a capture on a GPU.
TEST(EmulatedDevice, RefusesWhatCannotBeCaptured) {
    const OwnedQueue queue = make_queue();
    const Pinned pinned({1});
    float pageable = 0;
    begin_capture(queue.get());
    EXPECT_THROW(copy(queue.get(), &pageable, pinned.floats, sizeof(float)), Error);
    EXPECT_THROW(allocate(4), Error);
    EXPECT_THROW(allocate_pinned(4), Error);
    EXPECT_THROW(is_idle(queue.get()), Error);
    EXPECT_NO_THROW(end_capture(queue.get()));

    void* const data = allocate(4);
    begin_capture(queue.get());
    free(data);
    EXPECT_THROW(end_capture(queue.get()), Error);
    begin_capture(queue.get());
    EXPECT_NO_THROW(end_capture(queue.get()));
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

// ---- late queues ----------------------------------------------------------------------------------------------------

class LateQueue : public testing::Test {
protected:
    void SetUp() override { run_late(late.get()); }

    // Adds 1 to all of x.
    void add_one(const OwnedQueue& queue) { add(queue.get(), DType::F32, x, ones, 4); }

    const OwnedQueue queue = make_queue(), late = make_queue();
    const OwnedEvent event = make_event();
    alignas(16) float x[4] = {}, ones[4] = {1, 1, 1, 1};
};

TEST_F(LateQueue, RunsWhenTheHostWaits) {
    add_one(late);
    EXPECT_EQ(x[0], 0);
    synchronize(late.get());
    EXPECT_EQ(x[0], 1);
    add_one(late);
    while (!is_idle(late.get())) {
    }
    EXPECT_EQ(x[0], 2);
}

TEST_F(LateQueue, ReadsHostMemoryWhenItRuns) {
    float host = 1;
    copy(late.get(), x, &host, sizeof(host));
    host = 2;
    synchronize(late.get());
    EXPECT_EQ(x[0], 2);
}

TEST_F(LateQueue, RunsAsFarAsAnEventThatAnotherWaitsFor) {
    add_one(late);
    record(event, late.get());
    add_one(late);
    wait(queue.get(), event);
    EXPECT_EQ(x[0], 1);
    synchronize(late.get());
    EXPECT_EQ(x[0], 2);
}

TEST_F(LateQueue, IsWaitedForAsItWasRecordedWhenTheWaitWasPutIn) {
    record(event, queue.get());
    wait(late.get(), event);
    add_one(late);
    record(event, late.get());
    add_one(late);
    synchronize(late.get());
    EXPECT_EQ(x[0], 2);
}

TEST_F(LateQueue, ReplaysAGraphLate) {
    begin_capture(late.get());
    add_one(late);
    const OwnedGraph graph = end_capture(late.get());
    replay(late.get(), graph);
    EXPECT_EQ(x[0], 0);
    synchronize(late.get());
    EXPECT_EQ(x[0], 1);
}

// Why there are late queues: whichever of the two is late, one of these loses its wait, and shows it.
TEST_F(LateQueue, ShowsAMissingWait) {
    const auto read_after_write = [&](bool waits) {
        x[0] = 0;
        add_one(late);  // written here
        record(event, late.get());
        if (waits)
            wait(queue.get(), event);
        float read = -1;
        copy(queue.get(), &read, x, sizeof(read));
        synchronize(late.get());
        return read;
    };
    EXPECT_EQ(read_after_write(true), 1);
    EXPECT_EQ(read_after_write(false), 0);

    const auto overwrite_after_read = [&](bool waits) {
        x[0] = 7;
        add(late.get(), DType::F32, ones, x, 4);  // read here
        record(event, late.get());
        if (waits)
            wait(queue.get(), event);
        set_bytes(queue.get(), x, 0, sizeof(x));
        synchronize(late.get());
        const float read = ones[0] - 1;
        ones[0] = 1;
        return read;
    };
    EXPECT_EQ(overwrite_after_read(true), 7);
    EXPECT_EQ(overwrite_after_read(false), 0);
}

}  // namespace
}  // namespace cake::gpu
