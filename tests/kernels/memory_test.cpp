#include <chrono>
#include <thread>

#include <gmock/gmock.h>

#include "support/backends.h"
#include "support/expect_error.h"

namespace cake {
namespace {

class Memory : public OnEachBackend {};
CAKE_ON_EACH_BACKEND(Memory);

TEST_P(Memory, CopiesBetweenPlaces) {
    const Tensor host = Tensor::host(DType::F32, {5}), back = Tensor::host(DType::F32, {5});
    for (int i = 0; i < 5; ++i)
        host.span<float>()[std::size_t(i)] = float(i);
    for (const Place place : {Place::Host, Place::Pinned, Place::Device}) {
        const Tensor there = dev().tensor(DType::F32, {5}, place);
        dev().copy(stream, there, host);
        dev().copy(stream, back, there);
        dev().synchronize(stream);
        EXPECT_THAT(back.span<float>(), testing::ElementsAre(0, 1, 2, 3, 4));
    }
}

// Where streams run at once, under emulation and on the CPU, a missing wait shows nothing (simt/queues.h is for that); the
// emulation does refuse to wait for an event that was not recorded.
TEST_P(Memory, LetsAStreamWaitForAnother) {
    const Stream first{0}, second{1};
    const Tensor host = upload(dev(), std::vector<float>(1000, 3), {1000}),
                 there = dev().tensor(DType::F32, {1000});
    for (int i = 0; i < 100; ++i) {
        dev().fill_zero(first, there);
        dev().copy(first, there, host);
        dev().wait(second, dev().record(first));
        const Tensor back = Tensor::host(DType::F32, {1000});
        dev().copy(second, back, there);
        dev().synchronize(second);
        EXPECT_THAT(back.span<float>(), testing::Each(3));
    }
}

TEST_P(Memory, TellsTheSecondsBetweenEventsThatHaveHappened) {
    const Event begin = dev().record(stream);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    const Event end = dev().record(stream);
    dev().synchronize(stream);
    const auto seconds = dev().seconds_between(begin, end);
    ASSERT_TRUE(seconds.has_value());
    EXPECT_GE(*seconds, 0.0019);
    EXPECT_EQ(dev().seconds_between(begin, begin), 0);
}

TEST_P(Memory, IsAligned) {
    EXPECT_EQ(std::uintptr_t(dev().allocate(1, Place::Host).data()) % 64, 0u);
}

TEST_P(Memory, NamesTheSizeThatItLacks) {
#ifdef __SANITIZE_ADDRESS__
    GTEST_SKIP() << "AddressSanitizer ends the program where memory is refused";
#endif
    try {
        dev().allocate(std::size_t(1) << 60, Place::Device);
        FAIL() << "an exabyte was there";
    } catch (const Error& e) {
        EXPECT_THAT(e.what(), testing::HasSubstr("1152921504606846976"));
    }
}

TEST_P(Memory, RefusesACopyBetweenDifferentSizes) {
    const Tensor a = dev().tensor(DType::F32, {5}), b = dev().tensor(DType::F32, {6});
    EXPECT_THROW(dev().copy(stream, a, b), Error);
}

TEST_P(Memory, AndProductsReachSomething) {
    const Ceilings best = dev().ceilings();
    EXPECT_GT(best.read_gb_s, 0);
    EXPECT_GT(best.gemm_tflop_s, 0);
}

TEST_P(Memory, HoldsActivationsOfTheTypeThatTheBackendSays) {
    EXPECT_EQ(dev().types().activation, activations());
    if (dev().types().weights) {
        EXPECT_THAT(linear_types(), testing::ElementsAre(*dev().types().weights));
    }
}

TEST_P(Memory, SaysWhatMachineItIs) {
    const DeviceInfo info = dev().info();
    EXPECT_FALSE(info.name.empty());
    EXPECT_GT(info.memory_bytes, 0u);
    EXPECT_GT(info.free_bytes, 0u);
    EXPECT_LE(info.free_bytes, info.memory_bytes);
}

TEST(CudaDevices, SaysInOneLineWhyThereIsNone) {
    const CudaDevices devices = cuda_devices();
    if (devices.count > 0)
        GTEST_SKIP() << "there is one";
    EXPECT_THAT(devices.why_none, testing::Not(testing::IsEmpty()));
    EXPECT_THAT(devices.why_none, testing::Not(testing::HasSubstr("\n")));
    EXPECT_THAT(usage_message([] { make_cuda_backend(0); }), testing::HasSubstr("CUDA"));
}

TEST(CudaDevices, RefusesOneThatIsNotThere) {
    const int count = cuda_devices().count;
    if (count == 0)
        GTEST_SKIP() << "there is none";
    EXPECT_THAT(usage_message([&] { make_cuda_backend(count); }),
                testing::HasSubstr(fmt::format("GPU {} of {}", count, count)));
}

}  // namespace
}  // namespace cake
