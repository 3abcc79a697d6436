#include <array>

#include <gmock/gmock.h>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_pool.h"
#include "support/expect_error.h"

namespace cake {
namespace {

class Pool : public testing::Test {
protected:
    void SetUp() override { ASSERT_TRUE(pool.reserve(1024)); }
    CudaPool pool;
};

TEST_F(Pool, GivesAlignedPiecesOfOneSlab) {
    void *const a = pool.take(1), *const b = pool.take(300), *const c = pool.take(256);
    EXPECT_EQ(std::uintptr_t(a) % 256, 0u);
    EXPECT_EQ(static_cast<std::byte*>(b) - static_cast<std::byte*>(a), 256);
    EXPECT_EQ(static_cast<std::byte*>(c) - static_cast<std::byte*>(a), 768);
    EXPECT_EQ(pool.held_bytes(), 1024u);
    EXPECT_EQ(pool.outside_bytes(), 0u);
    EXPECT_EQ(pool.take(0), nullptr);
    pool.give_back(a, 1);
    pool.give_back(b, 300);
    pool.give_back(c, 256);
    EXPECT_EQ(pool.held_bytes(), 0u);
    EXPECT_EQ(pool.peak_bytes(), 1024u);
}

TEST_F(Pool, JoinsWhatIsGivenBackInAnyOrder) {
    for (const auto& order : {std::array{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {0, 2, 1, 3}}) {
        std::array<void*, 4> pieces;
        for (void*& piece : pieces)
            piece = pool.take(256);
        for (const int i : order)
            pool.give_back(pieces[std::size_t(i)], 256);
        void* const whole = pool.take(1024);
        EXPECT_EQ(pool.outside_bytes(), 0u);
        pool.give_back(whole, 1024);
    }
}

TEST_F(Pool, TakesWhatDoesNotFitByItself) {
    void *const a = pool.take(512), *const b = pool.take(768);
    ASSERT_TRUE(a && b);
    EXPECT_EQ(pool.outside_bytes(), 768u);
    EXPECT_EQ(pool.peak_bytes(), 1280u);
    pool.give_back(b, 768);
    EXPECT_EQ(pool.outside_bytes(), 0u);
    pool.give_back(a, 512);
}

TEST_F(Pool, KeepsASlabThatIsInUse) {
    void* const a = pool.take(256);
    EXPECT_TRUE(pool.reserve(4096));
    void* const b = pool.take(1024);
    EXPECT_EQ(pool.outside_bytes(), 1024u);
    pool.give_back(b, 1024);
    pool.give_back(a, 256);
    EXPECT_TRUE(pool.reserve(4096));
    void* const c = pool.take(4096);
    EXPECT_EQ(pool.outside_bytes(), 0u);
    pool.give_back(c, 4096);
}

TEST_F(Pool, CountsPeaksAnewWhereMemoryIsReserved) {
    void* const a = pool.take(768);
    pool.give_back(a, 768);
    EXPECT_EQ(pool.peak_bytes(), 768u);
    EXPECT_TRUE(pool.reserve(512));
    EXPECT_EQ(pool.peak_bytes(), 0u);
}

TEST(CudaMemory, IsRefusedByTheNameOfTheGpuWhereThereIsLess) {
    const auto dev = make_cuda_backend(0, DType::BF16);
    EXPECT_THAT(usage_message([&] { dev->reserve(std::size_t(1) << 60, 0); }),
                testing::AllOf(testing::HasSubstr("1152921504606846976"),
                               testing::HasSubstr(dev->info().name)));
}

TEST(CudaMemory, OutlivesItsBackend) {
    auto dev = make_cuda_backend(0, DType::BF16);
    dev->reserve(1000, 0);
    const Tensor inside = dev->tensor(DType::F32, {200}), outside = dev->tensor(DType::F32, {200});
    EXPECT_EQ(dev->info().peak_bytes, 2048u);
    dev.reset();
}

// Weights and workspace, and what a product works in: the device is asked once, and gets all back.
TEST(CudaMemory, IsTakenFromTheDeviceInOnePiece) {
    constexpr std::size_t bytes = gpu::gemm_work_bytes + 4 * 256;
    const auto dev = make_cuda_backend(0, DType::F32);
    const std::size_t before = dev->info().used_bytes;
    for (int time = 0; time < 2; ++time) {
        dev->reserve(bytes, gpu::gemm_work_bytes);
        EXPECT_EQ(dev->info().used_bytes, before + bytes);
        EXPECT_EQ(dev->info().peak_bytes, gpu::gemm_work_bytes);
        const Tensor x = dev->tensor(DType::F32, {4, 4}), w = dev->tensor(DType::F32, {4, 4}),
                     out = dev->tensor(DType::F32, {4, 4});
        dev->fill_zero({}, x);
        dev->fill_zero({}, w);
        dev->linear({}, x, {w, {}}, out);
        dev->synchronize({});
        EXPECT_EQ(dev->info().used_bytes, before + bytes);
        EXPECT_EQ(dev->info().peak_bytes, gpu::gemm_work_bytes + 3 * 256);
    }
}

// A plan that was wrong costs an allocation, not the run.
TEST(CudaMemory, IsTakenBeyondTheReserveWhereAKernelNeedsMore) {
    const auto dev = make_cuda_backend(0, DType::F32);
    dev->reserve(4 * 256, 256);
    const std::size_t reserved = dev->info().used_bytes;
    const Tensor x = dev->tensor(DType::F32, {4, 4}), out = dev->tensor(DType::F32, {4, 4});
    dev->fill_zero({}, x);
    dev->linear({}, x, {x, {}}, out);
    EXPECT_EQ(dev->info().used_bytes, reserved + gpu::gemm_work_bytes);
}

}  // namespace
}  // namespace cake
