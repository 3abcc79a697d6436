// What only the CUDA backend does.
#include "kernels/cuda/cuda_backend.h"

#include <gmock/gmock.h>

#include "kernels/backend.h"

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
