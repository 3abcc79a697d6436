// The machine that runs kernels on the host: blocks, barriers, shared memory, and what it reports.
#include "simt/machine.h"

#include <cmath>
#include <thread>
#include <vector>

#include "kernels/cuda/reduce.cuh"
#include "simt/launch_error.h"

namespace cake::gpu {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

__global__ void write_place(int* out) {
    const int block = int(blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z));
    const int thread = int(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
    const int threads = int(blockDim.x * blockDim.y * blockDim.z);
    out[block * threads + thread] = block * threads + thread;
}

TEST(Machine, RunsEveryThreadOfEveryBlock) {
    std::vector<int> out(2 * 3 * 4 * 5 * 6 * 7, -1), want;
    for (int i = 0; i < int(out.size()); ++i)
        want.push_back(i);
    launch(Queue(), write_place, dim3(2, 3, 4), dim3(5, 6, 7), 0, out.data());
    EXPECT_EQ(out, want);
}

TEST(Machine, DoesNothingForAnEmptyGrid) {
    launch(Queue(), write_place, dim3(0), dim3(32), 0, static_cast<int*>(nullptr));
}

TEST(Machine, RefusesWhatNoGpuTakes) {
    const auto refused = HasSubstr("no GPU takes");
    int* const none = nullptr;
    EXPECT_THAT(launch_error(write_place, dim3(1), dim3(1025), 0, none), refused);
    EXPECT_THAT(launch_error(write_place, dim3(1, 65536), dim3(32), 0, none), refused);
    EXPECT_THAT(launch_error(write_place, dim3(1), dim3(32), 228 * 1024, none), refused);
}

__global__ void last_writer(int* out) { *out = int(blockIdx.x * 100 + threadIdx.x); }

TEST(Machine, RunsBackwardsOnRequest) {
    int last = -1;
    launch(Queue(), last_writer, dim3(3), dim3(40), 0, &last);
    EXPECT_EQ(last, 239);
    simt::run_backwards(true);
    launch(Queue(), last_writer, dim3(3), dim3(40), 0, &last);
    simt::run_backwards(false);
    EXPECT_EQ(last, 0);
}

// Each thread reads what the thread at the other end of the block wrote.
__global__ void reverse(int* out) {
    CAKE_SHARED(int, values, [256]);
    values[threadIdx.x] = int(threadIdx.x);
    __syncthreads();
    out[threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

TEST(Machine, LetsNobodyPassABarrierBeforeAllAreThere) {
    std::vector<int> out(256), want;
    for (int i = 255; i >= 0; --i)
        want.push_back(i);
    launch(Queue(), reverse, dim3(1), dim3(256), 0, out.data());
    EXPECT_EQ(out, want);
}

__global__ void count_votes(int* out) {
    out[threadIdx.x] = __syncthreads_count(threadIdx.x % 3 == 0);
    out[threadIdx.x] += 1000 * __syncthreads_or(threadIdx.x == 7);
    out[threadIdx.x] += 10000 * __syncthreads_and(threadIdx.x != 7);
}

TEST(Machine, CountsVotesAtABarrier) {
    std::vector<int> out(50);
    launch(Queue(), count_votes, dim3(1), dim3(50), 0, out.data());
    EXPECT_THAT(out, Each(1017));
}

__global__ void read_unwritten(float* fixed, float* dynamic) {
    CAKE_SHARED(float, values, [4]);
    CAKE_DYNAMIC_SHARED(float, more);
    fixed[blockIdx.x] = values[threadIdx.x];
    dynamic[blockIdx.x] = more[threadIdx.x];
    values[threadIdx.x] = more[threadIdx.x] = 1;
}

TEST(Machine, FillsSharedMemoryWithNaNAtEachBlock) {
    std::vector<float> fixed(2), dynamic(2);
    launch(Queue(), read_unwritten, dim3(2), dim3(1), 16, fixed.data(), dynamic.data());
    for (const float x : {fixed[0], fixed[1], dynamic[0], dynamic[1]})
        EXPECT_TRUE(std::isnan(x));
}

__global__ void too_much_shared(float* out) {
    CAKE_SHARED(float, large, [60000]);
    out[0] = large[0];
}

TEST(Machine, HasAsMuchSharedMemoryAsAGpu) {
    float out = 0;
    EXPECT_THAT(launch_error(too_much_shared, dim3(1), dim3(1), 0, &out),
                HasSubstr("no shared memory left for large"));
}

__global__ void some_shared(float* out) {
    CAKE_SHARED(float, some, [9 * 256]);
    CAKE_DYNAMIC_SHARED(float, more);
    out[0] = some[0] + more[0];
}

TEST(Machine, GivesAKernelThatDoesNotAskNoMoreThan48KiBInAll) {
    float out = 0;
    EXPECT_THAT(launch_error(some_shared, dim3(1), dim3(1), unasked_shared_bytes, &out),
                HasSubstr("no shared memory left for some"));
    launch(Queue(), some_shared, dim3(1), dim3(1), unasked_shared_bytes + 16, &out);
    EXPECT_TRUE(std::isnan(out));
}

__global__ void reduce(float* sums, double* of_doubles, int* most) {
    const int t = int(threadIdx.x);
    sums[t] = block_sum(float(t));
    of_doubles[t] = block_sum(double(t) / 3);
    most[t] = block_max(t == 41 ? 1000 : t);
}

TEST(Machine, GivesAllThreadsTheSumAndTheMaximumOfTheBlock) {
    std::vector<float> sums(96);
    std::vector<double> of_doubles(96);
    std::vector<int> most(96);
    launch(Queue(), reduce, dim3(1), dim3(96), 0, sums.data(), of_doubles.data(), most.data());
    EXPECT_THAT(sums, Each(95.0f * 96 / 2));
    EXPECT_THAT(of_doubles, Each(testing::DoubleNear(95.0 * 96 / 6, 1e-9)));
    EXPECT_THAT(most, Each(1000));
}

__global__ void add_one(int* out) { atomicAdd(out, 1); }

TEST(Machine, AddsAtomicallyFromSeveralThreadsOfTheSystem) {
    int n = 0;
    std::vector<std::thread> ranks;
    for (int i = 0; i < 4; ++i)
        ranks.emplace_back([&] { launch(Queue(), add_one, dim3(50), dim3(64), 0, &n); });
    for (std::thread& rank : ranks)
        rank.join();
    EXPECT_EQ(n, 4 * 50 * 64);
}

// ---- what it reports ------------------------------------------------------------------------------------------------
__global__ void barrier_for_some() {
    if (threadIdx.x < 10)
        __syncthreads();
}

TEST(Machine, ReportsABarrierThatNotAllThreadsReach) {
    EXPECT_THAT(launch_error(barrier_for_some, dim3(1), dim3(32), 0),
                AllOf(HasSubstr("divergent barrier"), HasSubstr("22 of 32 threads have ended"),
                      HasSubstr("machine_test.cpp:")));
}

__global__ void two_barriers() {
    if (threadIdx.x < 10)
        __syncthreads();
    else
        __syncthreads();
}

TEST(Machine, ReportsThreadsThatWaitAtDifferentBarriers) {
    EXPECT_THAT(
        launch_error(two_barriers, dim3(1), dim3(32), 0),
        AllOf(HasSubstr("divergent barrier: other threads wait at"), HasSubstr("thread (10, 0")));
}

__global__ void barrier_against_shuffle(int* out) {
    if (threadIdx.x < 10)
        __syncthreads();
    else
        out[threadIdx.x] = __shfl_xor_sync(kAllLanes, 1, 1);
}

TEST(Machine, ReportsWhoWaitsForWhomInADeadlock) {
    int out[32];
    EXPECT_THAT(launch_error(barrier_against_shuffle, dim3(1), dim3(32), 0, out),
                AllOf(HasSubstr("0 of 32 threads have ended"),
                      HasSubstr("thread 0 waits in __syncthreads at machine_test.cpp:"),
                      HasSubstr("thread 10 waits in __shfl_xor_sync at machine_test.cpp:")));
}

__global__ void absent_from_mask(int* out) {
    out[threadIdx.x] = __shfl_xor_sync(0xffff0000u, 1, 1);
}

TEST(Machine, ReportsALaneThatIsNotInItsOwnMask) {
    int out[32];
    EXPECT_THAT(launch_error(absent_from_mask, dim3(1), dim3(32), 0, out),
                HasSubstr("__shfl_xor_sync: lane 0 is not in its own mask 0xffff0000"));
}

__global__ void shuffle_against_ballot(int* out) {
    if (threadIdx.x < 16)
        out[threadIdx.x] = __shfl_xor_sync(kAllLanes, 1, 1);
    else
        out[threadIdx.x] = int(__ballot_sync(kAllLanes, 1));
}

TEST(Machine, ReportsLanesThatMeetInDifferentOperations) {
    int out[32];
    EXPECT_THAT(launch_error(shuffle_against_ballot, dim3(1), dim3(32), 0, out),
                HasSubstr("__ballot_sync meets __shfl_xor_sync at machine_test.cpp:"));
}

__global__ void some_have_left(int* out) {
    if (threadIdx.x < 5)
        return;
    out[threadIdx.x] = __shfl_xor_sync(kAllLanes, 1, 1);
}

TEST(Machine, ReportsAMaskWithLanesThatHaveEnded) {
    int out[32];
    EXPECT_THAT(launch_error(some_have_left, dim3(1), dim3(32), 0, out),
                AllOf(HasSubstr("deadlock"), HasSubstr("5 of 32 threads have ended")));
}

TEST(Machine, WorksAfterAReport) {
    launch_error(barrier_for_some, dim3(1), dim3(32), 0);
    std::vector<int> out(64);
    launch(Queue(), reverse, dim3(1), dim3(64), 0, out.data());
    EXPECT_EQ(out.front(), 63);
    EXPECT_EQ(out.back(), 0);
}

}  // namespace
}  // namespace cake::gpu
