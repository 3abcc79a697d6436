// What only the CUDA backend does, where the emulation says when a queue gets to its work.
#include <chrono>
#include <thread>

#include <gmock/gmock.h>

#include "model/rank.h"
#include "simt/emulated_backend.h"
#include "simt/queues.h"
#include "simt/simt.h"
#include "support/backends.h"
#include "support/expect_error.h"

namespace cake {
namespace {

TEST_F(EmulatedBackend, LooksWhileItWaits) {
    EXPECT_GT(looks_during([&] { dev_->synchronize({}); }), 0);
    EXPECT_EQ(looks_during([] {}), 0);
    const auto twice = [&] {
        dev_->synchronize({});
        dev_->synchronize({});
    };
    EXPECT_EQ(looks_during(twice), looks_during([&] { dev_->synchronize({}); }));
}

TEST_F(EmulatedBackend, DoesNotLookForThoseWhoAreGone) {
    int looks = 0;
    cuda_while_waiting(*dev_, [&] { ++looks; });
    dev_->fill_zero({}, on_device_);
    dev_->synchronize({});
    EXPECT_EQ(looks, 0);
}

TEST_F(EmulatedBackend, LooksBeforeACopyThatHoldsTheThread) {
    const Tensor pageable = Tensor::host(DType::F32, {4}),
                 pinned = dev_->tensor(DType::F32, {4}, Place::Pinned);
    const View part = on_device_.view().rows(4, 4);
    EXPECT_GT(looks_during([&] { dev_->copy({}, pageable, part); }), 0);
    EXPECT_GT(looks_during([&] { dev_->copy({}, part, pageable); }), 0);
    EXPECT_EQ(looks_during([&] { dev_->copy({}, pinned, part); }), 0);
    EXPECT_EQ(looks_during([&] { dev_->copy({}, part, pinned); }), 0);
    EXPECT_EQ(looks_during([&] { dev_->copy({}, part, on_device_.view().rows(0, 4)); }), 0);
}

TEST_F(EmulatedBackend, EndsACopyWhereALookThrows) {
    const Tensor host = Tensor::host(DType::F32, {8});
    for (float& x : host.span<float>())
        x = 7;
    dev_->fill_zero({}, on_device_);
    const auto watch = cuda_while_waiting(*dev_, [] { throw Error("the network is gone"); });
    EXPECT_THROW(dev_->copy({}, host, on_device_), Error);
    EXPECT_THAT(host.span<float>(), testing::Each(7));
}

TEST_F(EmulatedBackend, EndsACaptureOfPageableMemory) {
    const Tensor pageable = Tensor::host(DType::F32, {8});
    EXPECT_THROW(dev_->capture({}, [&] { dev_->copy({}, on_device_, pageable); }), Error);
    EXPECT_NO_THROW(dev_->copy({}, on_device_, pageable));
    dev_->synchronize({});
}

// ---- phases, booked in the device's time -----------------------------------------------------------------------------

class EmulatedPhases : public EmulatedBackend {
protected:
    void SetUp() override { gpu::run_late(cuda_queue(*dev_, {})); }

    // Put in at once, done later.
    void work(int milliseconds) {
        gpu::put(cuda_queue(*dev_, {}),
                 [=] { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); });
    }

    std::unique_ptr<Communicator> self_ = make_self_communicator();
    PhaseClock clock_{*dev_};
    const Rank rank_{*dev_, *self_, &clock_};
};

TEST_F(EmulatedPhases, TakeWhatTheDeviceTakesAndNotThePuttingIn) {
    const Timer wall;
    {
        auto t = rank_.time(Phase::Linear);
        work(20);
    }
    work(20);  // of no phase
    {
        auto t = rank_.time(Phase::Attention);
        work(10);
    }
    EXPECT_EQ(clock_.times()[Phase::Linear], 0) << "nobody has waited";
    rank_.wait();
    const PhaseTimes& times = clock_.times();
    EXPECT_GE(times[Phase::Linear], 0.02);
    EXPECT_GE(times[Phase::Attention], 0.01);
    EXPECT_LE(times[Phase::Linear] + times[Phase::Attention] + 0.02, wall.seconds());
}

TEST_F(EmulatedPhases, AreBookedToAShareTooWithItsWholeTime) {
    PhaseTimes share;
    {
        auto t = rank_.time(Phase::Evict);
        work(1);
    }
    {
        const PhaseShare s(&clock_, {}, share);
        work(10);
        auto t = rank_.time(Phase::Evict);
        work(10);
    }
    rank_.wait();
    EXPECT_GE(share[Phase::Evict], 0.01);
    EXPECT_GE(share.total_s, share[Phase::Evict] + 0.01);
    EXPECT_GT(clock_.times()[Phase::Evict], share[Phase::Evict]);
    EXPECT_EQ(clock_.times().total_s, 0) << "whoever has the clock says what is all";
}

TEST_F(EmulatedPhases, AreNotBookedWithoutAClock) {
    Rank untimed = rank_;
    untimed.times = nullptr;
    {
        auto t = untimed.time(Phase::Linear);
        work(1);
    }
    untimed.wait();
    EXPECT_EQ(clock_.times()[Phase::Linear], 0);
}

TEST(CudaBackend, RefusesAGpuThatIsTooOld) {
    gpu::DeviceProperties gpu;
    gpu.name = "Tesla T4";
    gpu.major = 7;
    gpu.minor = 5;
    EXPECT_THAT(usage_message([&] { check_capability(1, gpu); }),
                testing::AllOf(testing::HasSubstr("GPU 1, Tesla T4"), testing::HasSubstr("7.5"),
                               testing::HasSubstr("--backend cpu")));
    gpu.major = 8;
    gpu.minor = 0;
    EXPECT_NO_THROW(check_capability(1, gpu));
}

}  // namespace
}  // namespace cake
