#include <limits>

#include "support/backends.h"
#include "support/near.h"
#include "support/random_weights.h"
#include "support/reference_block.h"

namespace cake {
namespace {

class Norm : public OnEachBackend {
protected:
    Tolerance tolerance() const { return {.abs = 1e-6, .rel = 1e-6 + 2 * rounding(activations())}; }
};
CAKE_ON_EACH_BACKEND(Norm);

constexpr float kEps = 1e-5f;

TEST_P(Norm, DividesByTheRootOfTheMeanSquare) {
    for (const std::int64_t d : {1, 15, 16, 31, 576, 2049, 12288}) {  // the last: 48 KiB a row
        constexpr std::int64_t n = 9;
        const auto x = random_values(n * d, 1, activations());
        const auto weight = random_values(d, 2);
        const Tensor out = dev().tensor(activations(), {n, d});
        dev().rms_norm(stream, upload(dev(), x, {n, d}, activations()), upload(dev(), weight, {d}),
                       kEps, out);
        EXPECT_THAT(download_floats(dev(), out),
                    NearTo(reference::rms_norm(reference::widened(x), weight, kEps), tolerance()))
            << "d = " << d;
    }
}

TEST_P(Norm, MakesZerosOfZeros) {
    const Tensor x = dev().tensor(activations(), {2, 40}),
                 out = dev().tensor(activations(), {2, 40});
    dev().fill_zero(stream, x);
    dev().rms_norm(stream, x, upload(dev(), random_values(40, 1), {40}), kEps, out);
    EXPECT_EQ(download_floats(dev(), out), std::vector<float>(80, 0.0f));
}

TEST_P(Norm, AddsFirstAndLeavesTheSumInTheResidualStream) {
    constexpr std::int64_t n = 5, d = 67;
    const auto x = random_values(n * d, 1, activations()),
               delta = random_values(n * d, 2, activations());
    const auto weight = random_values(d, 3);
    const Tensor sum = upload(dev(), x, {n, d}, activations());
    const Tensor out = dev().tensor(activations(), {n, d});
    dev().add_rms_norm(stream, sum, upload(dev(), delta, {n, d}, activations()),
                       upload(dev(), weight, {d}), kEps, out);

    std::vector<double> want_sum;
    for (std::size_t i = 0; i < x.size(); ++i)
        want_sum.push_back(double(x[i]) + double(delta[i]));
    EXPECT_THAT(download_floats(dev(), sum),
                NearTo(want_sum, {.abs = 1e-6, .rel = 2 * rounding(activations())}));
    EXPECT_THAT(download_floats(dev(), out), NearTo(reference::rms_norm(want_sum, weight, kEps),
                                                    {1e-5, 1e-5 + 4 * rounding(activations())}));
}

TEST_P(Norm, FusedAndSeparateAdditionGiveTheSameBits) {
    constexpr std::int64_t n = 4, d = 100;
    const auto x = random_values(n * d, 1, activations()),
               delta = random_values(n * d, 2, activations());
    const Tensor weight = upload(dev(), random_values(d, 3), {d});
    const Tensor delta_dev = upload(dev(), delta, {n, d}, activations());
    const Tensor fused = upload(dev(), x, {n, d}, activations()),
                 separate = upload(dev(), x, {n, d}, activations());
    const Tensor fused_out = dev().tensor(activations(), {n, d}),
                 separate_out = dev().tensor(activations(), {n, d});
    dev().add_rms_norm(stream, fused, delta_dev, weight, kEps, fused_out);
    dev().add(stream, separate, delta_dev);
    dev().rms_norm(stream, separate, weight, kEps, separate_out);
    EXPECT_EQ(download_floats(dev(), fused), download_floats(dev(), separate));
    EXPECT_EQ(download_floats(dev(), fused_out), download_floats(dev(), separate_out));
}

TEST_P(Norm, GivesARowTheSameBitsAloneAndAmongOthers) {
    constexpr std::int64_t n = 70, d = 577;
    const Tensor x = upload(dev(), random_values(n * d, 1, activations()), {n, d}, activations());
    const Tensor weight = upload(dev(), random_values(d, 2), {d});
    const Tensor all = dev().tensor(activations(), {n, d}),
                 one = dev().tensor(activations(), {1, d});
    dev().rms_norm(stream, x, weight, kEps, all);
    dev().rms_norm(stream, x.view().row(69), weight, kEps, one);
    EXPECT_EQ(download_floats(dev(), one), download_floats(dev(), all.view().row(69)));
}

class Silu : public OnEachBackend {};
CAKE_ON_EACH_BACKEND(Silu);

TEST_P(Silu, GatesTheUpperHalf) {
    for (const std::int64_t ff : {1, 8, 17, 1536}) {
        constexpr std::int64_t n = 3;
        auto gate_up = random_values(n * 2 * ff, 1, activations());
        gate_up[0] = -200;  // e^200 is no float
        const Tensor out = dev().tensor(activations(), {n, ff});
        dev().silu_mul(stream, upload(dev(), gate_up, {n, 2 * ff}, activations()), out);
        EXPECT_THAT(download_floats(dev(), out),
                    NearTo(reference::silu_mul(gate_up, std::size_t(ff)),
                           {1e-30, 1e-6 + 2 * rounding(activations())}))
            << "ff = " << ff;
    }
}

TEST_P(Silu, KeepsNaN) {
    const std::vector<float> gate_up = {std::numeric_limits<float>::quiet_NaN(), 1.0f};
    const Tensor out = dev().tensor(activations(), {1, 1});
    dev().silu_mul(stream, upload(dev(), gate_up, {1, 2}, activations()), out);
    EXPECT_TRUE(std::isnan(download_floats(dev(), out)[0]));
}

class Embed : public OnEachBackend {};
CAKE_ON_EACH_BACKEND(Embed);

TEST_P(Embed, TakesRowsOfThisRankAndLeavesZerosForOthers) {
    constexpr std::int64_t d = 19;
    for (const DType dtype : {DType::F32, DType::BF16}) {
        const auto table = random_values(10 * d, 1, activations());
        const std::vector<std::int32_t> ids = {4, 13, 14, 5, 3, 5};  // this rank has rows 4 .. 14
        const Tensor out = dev().tensor(activations(), {6, d});
        dev().embed(stream, upload(dev(), ids, {6}), upload(dev(), table, {10, d}, dtype), 4, out);

        std::vector<double> want;
        for (const std::int32_t id : ids)
            for (std::int64_t i = 0; i < d; ++i)
                want.push_back(id >= 4 && id < 14 ? double(table[std::size_t((id - 4) * d + i)])
                                                  : 0.0);
        EXPECT_THAT(download_floats(dev(), out),
                    NearTo(want, {.abs = 0, .rel = rounding(dtype) + rounding(activations())}));
    }
}

TEST_P(Norm, EmbedsRowsOfEveryTypeOfTable) {
    constexpr std::int64_t rows = 5, d = 512;
    for (const DType dtype : table_types()) {
        const RandomWeights table(dev(), dtype, {rows, d});
        const std::vector<std::int32_t> ids{14, 9, 12, 15};  // the table's rows are 10 .. 14
        const Tensor out = dev().tensor(activations(), {4, d});
        dev().embed(stream, upload(dev(), ids, {4}), table.dev, 10, out);
        std::vector<double> want(4 * d);
        for (const auto& [to, from] : {std::pair{0, 4}, {2, 2}})
            std::copy_n(table.values.begin() + from * d, d, want.begin() + to * d);
        const double narrowing = activations() == DType::F32 ? 0 : rounding(activations());
        EXPECT_THAT(download_floats(dev(), out), NearTo(want, {1e-5, 2e-7 + narrowing}))
            << name(dtype);
    }
}

}  // namespace
}  // namespace cake
