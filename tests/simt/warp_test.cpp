// Operations of a warp, copies in the background and matrix products on the machine, as CUDA and PTX describe them.
#include <cmath>
#include <vector>

#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"
#include "simt/launch_error.h"

namespace cake::gpu {
namespace {

using testing::HasSubstr;

// Runs one warp whose lanes give f(lane).
template <typename T>
std::vector<T> of_lanes(void (*kernel)(T*), unsigned lanes = 32) {
    std::vector<T> out(lanes);
    launch(Queue(), kernel, dim3(1), dim3(lanes), 0, out.data());
    return out;
}

// Broadcast of lane 3, the lane across, two up, two down; in groups of 8.
__global__ void shuffles(int* out) {
    const int lane = int(threadIdx.x), x = 100 + lane;
    out[lane] = __shfl_sync(kAllLanes, x, 3);
    out[32 + lane] = __shfl_xor_sync(kAllLanes, x, 31);
    out[64 + lane] = __shfl_up_sync(kAllLanes, x, 2, 8);
    out[96 + lane] = __shfl_down_sync(kAllLanes, x, 2, 8);
    out[128 + lane] = __shfl_sync(kAllLanes, x, 3, 8);
}

TEST(Warp, ShufflesAsCudaDoes) {
    std::vector<int> out(160);
    launch(Queue(), shuffles, dim3(1), dim3(32), 0, out.data());
    for (int lane = 0; lane < 32; ++lane) {
        SCOPED_TRACE(lane);
        const auto at = [&](int part) { return out[std::size_t(32 * part + lane)]; };
        EXPECT_EQ(at(0), 103);
        EXPECT_EQ(at(1), 131 - lane);
        EXPECT_EQ(at(2), 100 + (lane % 8 >= 2 ? lane - 2 : lane));
        EXPECT_EQ(at(3), 100 + (lane % 8 < 6 ? lane + 2 : lane));
        EXPECT_EQ(at(4), 103 + lane / 8 * 8);
    }
}

__global__ void vote(unsigned* out) {
    out[threadIdx.x] = __ballot_sync(kAllLanes, threadIdx.x % 3 == 0);
}

TEST(Warp, VotesOfLanesThatTheBlockHas) {
    EXPECT_EQ(of_lanes(vote)[5], 0x49249249u);
    EXPECT_EQ(of_lanes(vote, 10)[5], 0x249u);
}

// Halves of a warp on their own ways.
__global__ void halves(int* out) {
    const int lane = int(threadIdx.x);
    const unsigned mask = lane < 16 ? 0xffffu : 0xffff0000u;
    int x = lane;
    for (int i = 0; i < (lane < 16 ? 1 : 3); ++i)
        x += __shfl_xor_sync(mask, x, 1);
    out[lane] = x;
}

TEST(Warp, LetsDisjointMasksGoTheirOwnWays) {
    const auto out = of_lanes(halves);
    EXPECT_EQ(out[4], 4 + 5);
    EXPECT_EQ(out[20], 4 * (20 + 21));
}

__global__ void sums(double* out) {
    out[threadIdx.x] = warp_sum(double(threadIdx.x)) + 1000 * warp_max(double(threadIdx.x % 7));
}

TEST(Warp, GivesAllLanesSumAndMaximum) {
    EXPECT_EQ(of_lanes(sums), std::vector<double>(32, 31 * 16 + 6000));
}

__global__ void copies(const float* from, float* out) {
    CAKE_SHARED(float, buffer, [2 * 128]);
    const unsigned t = threadIdx.x;
    cp_async16(buffer + 4 * t, from + 4 * t);
    cp_async_commit();
    cp_async16(buffer + 128 + 4 * t, from + 4 * t, t < 16);
    cp_async_commit();
    out[t] = buffer[4 * t];  // no wait: as late as allowed
    cp_async_wait<1>();
    out[32 + t] = buffer[4 * t];
    out[64 + t] = buffer[128 + 4 * t];  // of the group that may still be under way
    cp_async_wait<0>();
    out[96 + t] = buffer[128 + 4 * t];
}

TEST(Warp, CopiesInTheBackgroundAsLateAsAllowed) {
    alignas(16) float from[128];
    for (int i = 0; i < 128; ++i)
        from[i] = float(i);
    std::vector<float> out(128);
    launch(Queue(), copies, dim3(1), dim3(32), 0, from, out.data());
    for (std::size_t t = 0; t < 32; ++t) {
        EXPECT_TRUE(std::isnan(out[t]));
        EXPECT_EQ(out[32 + t], float(4 * t));
        EXPECT_TRUE(std::isnan(out[64 + t]));
        EXPECT_EQ(out[96 + t], t < 16 ? float(4 * t) : 0.0f);
    }
}

__global__ void unaligned_copy(const float* from) {
    CAKE_SHARED(float, buffer, [8]);
    cp_async16(buffer, from + 1);
}

TEST(Warp, ReportsACopyOfAnUnalignedAddress) {
    alignas(16) float from[8] = {};
    EXPECT_THAT(launch_error(unaligned_copy, dim3(1), dim3(1), 0, from),
                HasSubstr("no multiples of 16 (block (0, 0, 0)"));
}

// a [16, 16], b [16, 8] and out [16, 8], row-major; loaded into fragments as PTX describes them: with matrices from shared
// memory, and once more element by element.
__global__ void multiply(const bf16* a, const bf16* b, float* out, bool by_matrices) {
    CAKE_SHARED(bf16, a_shared, [16 * 16]);
    CAKE_SHARED(bf16, b_shared, [16 * 8 + 16 * 8]);
    const int lane = int(threadIdx.x), g = lane / 4, t = lane % 4;
    for (int i = lane; i < 256; i += 32)
        a_shared[i] = a[i];
    for (int i = lane; i < 128; i += 32)
        b_shared[i] = b_shared[128 + i] = b[i];
    __syncwarp();
    const auto pair = [](bf16 low, bf16 high) {
        return std::uint32_t(low.bits) | std::uint32_t(high.bits) << 16;
    };
    std::uint32_t x[4], y[2];
    if (by_matrices) {
        ldmatrix_x4(x, a_shared + lane % 16 * 16 + lane / 16 * 8);
        std::uint32_t twice[4];
        ldmatrix_x4_transposed(twice, b_shared + lane * 8);
        y[0] = twice[0];
        y[1] = twice[1];
    } else {
        for (int r = 0; r < 4; ++r) {
            const bf16* from = a_shared + (g + r % 2 * 8) * 16 + 2 * t + r / 2 * 8;
            x[r] = pair(from[0], from[1]);
        }
        for (int r = 0; r < 2; ++r) {
            const bf16* from = b_shared + (2 * t + r * 8) * 8 + g;
            y[r] = pair(from[0], from[8]);
        }
    }
    float d[4] = {1, 1, 1, 1};
    mma_m16n8k16(d, x, y);
    for (int r = 0; r < 4; ++r)
        out[(g + r / 2 * 8) * 8 + 2 * t + r % 2] = d[r];
}

TEST(Warp, MultipliesMatricesAsPtxLaysThemOut) {
    std::vector<bf16> a, b;
    for (int i = 0; i < 256; ++i)
        a.push_back(to_bf16(float(i * 7 % 23 - 11)));
    for (int i = 0; i < 128; ++i)
        b.push_back(to_bf16(float(i * 5 % 19 - 9)));
    std::vector<float> want(128, 1);
    for (std::size_t i = 0; i < 16; ++i)
        for (std::size_t j = 0; j < 8; ++j)
            for (std::size_t k = 0; k < 16; ++k)
                want[i * 8 + j] += to_float(a[i * 16 + k]) * to_float(b[k * 8 + j]);
    for (const bool by_matrices : {false, true}) {
        std::vector<float> out(128);
        launch(Queue(), multiply, dim3(1), dim3(32), 0, a.data(), b.data(), out.data(),
               by_matrices);
        EXPECT_EQ(out, want) << (by_matrices ? "ldmatrix" : "element by element");
    }
}

__global__ void convert(const float* from, bf16* narrow_out, f16* half_out) {
    float v[8];
    load(v, from);
    store(narrow_out, v);
    store(half_out, v);
}

TEST(Warp, RoundsToTheNearestSixteenBitFloat) {
    alignas(32) const float from[8] = {1,      1.00390625f, 1.01171875f, -3.1415927f,
                                       1e-40f, 70000,       -0.0f,       2.5e-5f};
    alignas(16) bf16 narrow[8];
    alignas(16) f16 half[8];
    launch(Queue(), convert, dim3(1), dim3(1), 0, from, narrow, half);
    for (int i = 0; i < 8; ++i) {
        EXPECT_EQ(narrow[i].bits, to_bf16(from[i]).bits);
        EXPECT_EQ(half[i].bits, to_f16(from[i]).bits);
    }
}

}  // namespace
}  // namespace cake::gpu
