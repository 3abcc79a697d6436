// What only the CUDA backend does, and a GPU does as an emulated one.
#include <algorithm>
#include <cstdlib>

#include <gmock/gmock.h>

#include "simt/emulated_backend.h"

namespace cake {
namespace {

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
