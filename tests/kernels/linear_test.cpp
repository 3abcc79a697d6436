#include <algorithm>
#include <tuple>

#include "support/backends.h"
#include "support/near.h"
#include "support/random_weights.h"
#include "support/reference_block.h"

namespace cake {
namespace {

class Linear : public OnEachBackend {
protected:
    // Rows of x one after the other: n x in, weights out x in, of dtype.
    std::vector<float> run(std::span<const float> x, std::span<const float> weight,
                           std::span<const float> bias, std::int64_t n, std::int64_t in,
                           std::int64_t n_out, DType dtype) {
        return run(x, upload(dev(), weight, {n_out, in}, dtype), bias, n);
    }

    std::vector<float> run(std::span<const float> x, View w_dev, std::span<const float> bias,
                           std::int64_t n) {
        const std::int64_t n_out = w_dev.dim(0), in = w_dev.dim(1);
        const Tensor x_dev = upload(dev(), x, {n, in}, activations());
        const Tensor b_dev = bias.empty() ? Tensor() : upload(dev(), bias, {n_out}, activations());
        const Tensor out = dev().tensor(activations(), {n, n_out});
        dev().linear(stream, x_dev, {w_dev, b_dev}, out);
        return download_floats(dev(), out);
    }

    // F32 and BF16, where the backend takes such weights.
    std::vector<DType> plain_types() const {
        std::vector<DType> out;
        for (const DType dtype : linear_types())
            if (dtype == DType::F32 || dtype == DType::BF16)
                out.push_back(dtype);
        return out;
    }
};
CAKE_ON_EACH_BACKEND(Linear);

// Rows, inputs, outputs: odd ones, both sides of every threshold, more than a panel of narrow
// weights.
const std::tuple<std::int64_t, std::int64_t, std::int64_t> kShapes[] = {
    {1, 1, 1},     {1, 576, 960}, {3, 7, 5},    {5, 40, 33},
    {16, 96, 130}, {17, 96, 130}, {23, 65, 67}, {64, 576, 1000}};

TEST_P(Linear, AgreesWithTheReferenceForF32AndBf16Weights) {
    for (const auto& [n, in, n_out] : kShapes)
        for (const DType dtype : plain_types())
            for (const bool biased : {false, true}) {
                SCOPED_TRACE(fmt::format("{} x {} x {} {}{}", n, in, n_out, name(dtype),
                                         biased ? " + bias" : ""));
                const auto x = random_values(n * in, 1, activations());
                const auto weight = random_values(n_out * in, 2, dtype);
                const auto bias = random_values(biased ? n_out : 0, 3, activations());
                const auto want = reference::linear(x, weight, bias, std::size_t(n),
                                                    std::size_t(in), std::size_t(n_out));
                // Terms are of size 1 .. 1000 and cancel: errors grow with the root of their
                // number.
                const Tolerance tolerance{.abs = 1e-5 * std::sqrt(double(in)),
                                          .rel = 2e-6 + 2 * rounding(activations())};
                EXPECT_THAT(run(x, weight, bias, n, in, n_out, dtype), NearTo(want, tolerance));
            }
}

TEST_P(Linear, GivesARowTheSameBitsAloneAndInABatchOfDecoding) {
    if (!GetParam().exact_rows)
        GTEST_SKIP() << "rows are independent to rounding";
    constexpr std::int64_t in = 203, n_out = 77;
    const auto x = random_values(32 * in, 1, activations());
    for (const DType dtype : plain_types()) {
        const auto weight = random_values(n_out * in, 2, dtype);
        const auto all = run(x, weight, {}, 32, in, n_out, dtype);
        for (const std::int64_t n : {1, 2, 3, 7, 8, 16, 17, 25}) {
            const std::int64_t skipped = 5;
            const auto some = run(std::span(x).subspan(skipped * in, std::size_t(n * in)), weight,
                                  {}, n, in, n_out, dtype);
            EXPECT_EQ(some, std::vector<float>(all.begin() + skipped * n_out,
                                               all.begin() + (skipped + n) * n_out))
                << n << " rows, " << name(dtype);
        }
    }
}

// Weights of random blocks, of any type.
TEST_P(Linear, AgreesWithTheReferenceForEveryTypeOfWeights) {
    for (const DType dtype : linear_types())
        for (const auto& [n, in, n_out] : {std::tuple{1, 256, 1},
                                           {1, 768, 33},
                                           {3, 512, 7},
                                           {16, 256, 130},
                                           {23, 1536, 5},
                                           {64, 512, 9},
                                           {65, 768, 67},
                                           {70, 2304, 130}}) {
            SCOPED_TRACE(fmt::format("{} x {} x {} {}", n, in, n_out, name(dtype)));
            const RandomWeights weights(dev(), dtype, {n_out, in});
            const auto x = random_values(n * in, 1, activations());
            const auto bias = random_values(n_out, 3, activations());
            const auto want = reference::linear(x, weights.values, bias, std::size_t(n),
                                                std::size_t(in), std::size_t(n_out));
            const double most = *std::ranges::max_element(weights.values);
            const Tolerance tolerance{.abs = 2e-5 + 1e-6 * most * std::sqrt(double(in)),
                                      .rel = 2e-6 + 2 * rounding(activations())};
            EXPECT_THAT(run(x, weights.dev, bias, n), NearTo(want, tolerance));
        }
}

TEST_P(Linear, GivesARowTheSameBitsInABatchOfUpTo64ForEveryNarrowType) {
    if (!GetParam().exact_rows)
        GTEST_SKIP() << "rows are independent to rounding";
    if (linear_types() == std::vector{DType::F32})
        GTEST_SKIP() << "no narrow type";
    constexpr std::int64_t in = 768, n_out = 9;
    const auto x = random_values(64 * in, 1, activations());
    for (const DType dtype : linear_types()) {
        if (dtype == DType::F32)
            continue;
        const RandomWeights weights(dev(), dtype, {n_out, in});
        const auto all = run(x, weights.dev, {}, 64);
        for (std::int64_t n = 1; n < 64; ++n) {
            const std::int64_t skipped = 64 - n;
            EXPECT_EQ(run(std::span(x).subspan(std::size_t(skipped * in)), weights.dev, {}, n),
                      std::vector<float>(all.begin() + skipped * n_out, all.end()))
                << n << " rows, " << name(dtype);
        }
    }
}

TEST_P(Linear, RefusesRowsThatAreNotWholeBlocks) {
    const Tensor x = dev().tensor(activations(), {1, 48}),
                 out = dev().tensor(activations(), {1, 2});
    const Tensor bytes = dev().tensor(DType::U8, {2 * 48});
    const View weight(bytes.view().data(), DType::Q4_1, {2, 48});
    EXPECT_THROW(dev().linear(stream, x, {weight, {}}, out), Error);
}

TEST_P(Linear, GivesTheSameBitsTwice) {
    const auto x = random_values(100 * 64, 1, activations());
    const auto weight = random_values(96 * 64, 2);
    const DType dtype = linear_types()[0];
    EXPECT_EQ(run(x, weight, {}, 100, 64, 96, dtype), run(x, weight, {}, 100, 64, 96, dtype));
}

TEST_P(Linear, RefusesTypesThatItCannotRead) {
    const Tensor x = dev().tensor(activations(), {1, 32}),
                 out = dev().tensor(activations(), {1, 2});
    const Tensor weight = dev().tensor(DType::I32, {2, 32});
    EXPECT_THROW(dev().linear(stream, x, {weight, {}}, out), Error);
}

}  // namespace
}  // namespace cake
