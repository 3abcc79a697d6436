// What only the CUDA backend does.
#include "kernels/cuda/cuda_backend.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>

#include <gmock/gmock.h>

#include "kernels/backend.h"
#include "model/rank.h"
#include "simt/queues.h"
#include "simt/simt.h"
#include "support/backends.h"
#include "support/expect_error.h"

namespace cake {
namespace {

class EmulatedBackend : public testing::Test {
protected:
    // Calls of a look while `work` ran, and while the host waited for something that came before.
    int looks_during(const std::function<void()>& work) {
        int looks = 0;
        dev_->fill_zero({}, on_device_);
        const auto watch = cuda_while_waiting(*dev_, [&] { ++looks; });
        work();
        return looks;
    }

    std::unique_ptr<Backend> dev_ = make_cuda_backend(0, DType::F32);
    Tensor on_device_ = dev_->tensor(DType::F32, {8});
};

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

TEST_F(EmulatedBackend, CapturesWithoutRunningAndReplaysWithWhatIsThereByThen) {
    const Tensor more = dev_->tensor(DType::F32, {8});
    const auto download_sum = [&] { return download<float>(*dev_, on_device_); };
    dev_->copy({}, on_device_, upload(*dev_, std::vector<float>(8, 1), {8}));
    dev_->copy({}, more, upload(*dev_, std::vector<float>(8, 10), {8}));
    const auto add_more = dev_->capture({}, [&] { dev_->add({}, on_device_, more); });
    EXPECT_THAT(download_sum(), testing::Each(1));
    add_more();
    EXPECT_THAT(download_sum(), testing::Each(11));
    dev_->copy({}, more, upload(*dev_, std::vector<float>(8, 100), {8}));
    add_more();
    EXPECT_THAT(download_sum(), testing::Each(111));
}

TEST_F(EmulatedBackend, CapturesCopiesWhileSomebodyLooks) {
    const auto watch = cuda_while_waiting(*dev_, [] {});
    const Tensor pinned = dev_->tensor(DType::F32, {8}, Place::Pinned);
    const auto copy = dev_->capture({}, [&] { dev_->copy({}, on_device_, pinned); });
    std::ranges::fill(pinned.span<float>(), 3.0f);
    copy();
    EXPECT_THAT(download<float>(*dev_, on_device_), testing::Each(3));
    const Tensor pageable = Tensor::host(DType::F32, {8});
    EXPECT_THROW(dev_->capture({}, [&] { dev_->copy({}, on_device_, pageable); }), Error);
    EXPECT_NO_THROW(dev_->copy({}, on_device_, pageable));
}

// Statistics of a window over so many tokens: they work in scratch that grows with these.
struct Observation {
    Observation(Backend& dev, int tokens)
        : n_tokens(tokens),
          q(upload(dev, random_values(2 * 16, 1), {2, 1, 16})),
          k(upload(dev, random_values(tokens * 16, 2), {1, tokens, 16})),
          mean(dev.tensor(DType::F32, {1, tokens - 2})),
          variance(dev.tensor(DType::F32, {1, tokens - 2})),
          sums(dev.tensor(DType::F64, {2})) {}
    void make(Backend& dev) const {
        dev.window_moments({}, q, k, n_tokens, DType::F32, mean, variance, sums);
    }

    int n_tokens;
    Tensor q, k, mean, variance, sums;
};

TEST_F(EmulatedBackend, KeepsTheScratchOfWhatIsCaptured) {
    const Observation small(*dev_, 40);
    small.make(*dev_);
    const auto sums = download<double>(*dev_, small.sums);
    const auto again = dev_->capture({}, [&] { small.make(*dev_); });
    const Observation large(*dev_, 5000);
    large.make(*dev_);
    // Whoever gets memory now gets what was given back.
    std::vector<Tensor> zeros;
    for (int i = 0; i < 64; ++i) {
        zeros.push_back(dev_->tensor(DType::F32, {64}));
        dev_->fill_zero({}, zeros.back());
    }
    dev_->fill_zero({}, small.sums);
    again();
    EXPECT_EQ(download<double>(*dev_, small.sums), sums);
    for (const Tensor& x : zeros)
        EXPECT_THAT(download<float>(*dev_, x), testing::Each(0));
}

TEST_F(EmulatedBackend, EndsACaptureWhereTheWorkThrows) {
    EXPECT_THROW(dev_->capture({}, [] { throw Error("of the work"); }), Error);
    EXPECT_NO_THROW(dev_->synchronize({}));
}

TEST_F(EmulatedBackend, CapturesNothingWhereTheEnvironmentSaysSo) {
    for (const auto& [name, value] : {std::pair("CAKE_GRAPHS", "0"), std::pair("CAKE_SYNC", "1")}) {
        setenv(name, value, 1);
        const auto dev = make_cuda_backend(0, DType::F32);
        unsetenv(name);
        EXPECT_FALSE(dev->capture({}, [] { ADD_FAILURE() << "called"; })) << name;
    }
}

TEST_F(EmulatedBackend, UsesAnEventAgainWhenNobodyHoldsIt) {
    const auto device_event = [](const Event& e) {
        return static_cast<const gpu::OwnedEvent*>(e.of_device.get())->get();
    };
    std::optional<Event> first = dev_->record({});
    const auto* const of_first = device_event(*first);
    const Event second = dev_->record({}), copy = *first;
    EXPECT_NE(device_event(second), of_first);
    first.reset();
    EXPECT_NE(device_event(dev_->record({})), of_first) << "a copy is there";
    const auto* const idle = device_event(dev_->record({}));
    EXPECT_EQ(device_event(dev_->record({})), idle);
    EXPECT_THROW(dev_->wait({}, Event{}), Error);
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

TEST_F(EmulatedBackend, RefusesToSplitIntoKeysOfOtherHeads) {
    const auto split_into = [&](std::int64_t d_head) {
        const Tensor qkv = dev_->tensor(DType::F32, {2, 4 * 16}),
                     q = dev_->tensor(DType::F32, {2, 2, 16}),
                     inv_freq = dev_->tensor(DType::F32, {8}),
                     k = dev_->tensor(DType::F32, {1, 2, d_head}),
                     v = dev_->tensor(DType::F32, {1, 2, d_head});
        dev_->rope_split({}, qkv, inv_freq, 1, 0, q, k, v);
    };
    EXPECT_NO_THROW(split_into(16));
    EXPECT_THROW(split_into(8), Error);
}

}  // namespace
}  // namespace cake
