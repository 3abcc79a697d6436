// The kernels of the AVX2 table, which a processor with AVX-512 would never run otherwise.
#include "kernels/cpu/wide.h"

#include <algorithm>
#include <vector>

#include "io/dequant.h"
#include "support/backends.h"
#include "support/near.h"
#include "support/random_weights.h"
#include "support/reference_block.h"

namespace cake {
namespace {

using WideKernelsOf = testing::TestWithParam<const WideKernels*>;
INSTANTIATE_TEST_SUITE_P(, WideKernelsOf, testing::Values(&avx2_kernels(), &wide_kernels()),
                         [](const auto& info) {
                             return fmt::format("{}_{}", info.param->name, info.index);
                         });

TEST_P(WideKernelsOf, MultiplyFewRows) {
    constexpr std::int64_t rows = 7, in = 83, n_out = 30;
    const auto x = random_values(rows * in, 1), weight = random_values(n_out * in, 2),
               bias = random_values(n_out, 3);
    std::vector<float> out(rows * n_out);
    const FewRowsLinear task{x.data(), weight.data(), bias.data(), out.data(), rows,
                             in,       n_out,         DType::F32};
    GetParam()->few_rows_linear(task, 0, 9);
    GetParam()->few_rows_linear(task, 9, n_out);
    EXPECT_THAT(out, NearTo(reference::linear(x, weight, bias, rows, in, n_out), {1e-4, 2e-6}));
}

TEST_P(WideKernelsOf, MultiplyOneRowAndSeveralOfEveryType) {
    constexpr std::int64_t in = 768, n_out = 11;
    auto dev = make_cpu_backend(1);
    for (const DType dtype : weight_types) {
        const RandomWeights weights(*dev, dtype, {n_out, in});
        for (const std::int64_t rows : {1, 2, 5, 16}) {
            SCOPED_TRACE(fmt::format("{} {}", name(dtype), rows));
            const auto x = random_values(rows * in, 1), bias = random_values(n_out, 3);
            std::vector<float> out(std::size_t(rows * n_out));
            const FewRowsLinear task{
                x.data(), weights.dev.view().data(), bias.data(), out.data(), rows, in, n_out,
                dtype};
            GetParam()->few_rows_linear(task, 0, 5);
            GetParam()->few_rows_linear(task, 5, n_out);
            const double most = *std::ranges::max_element(weights.values);
            EXPECT_THAT(out, NearTo(reference::linear(x, weights.values, bias, std::size_t(rows),
                                                      in, n_out),
                                    {2e-5 + 3e-5 * most, 2e-6}));
        }
    }
}

// The portable conversion of src/io is the reference, to the bit.
TEST_P(WideKernelsOf, WidenEveryTypeAsReadingItDoes) {
    constexpr std::int64_t n = 1024;
    std::mt19937 random(5);
    for (const DType dtype : weight_types) {
        const auto row = random_row(dtype, n, random);
        for (const std::int64_t some : {std::int64_t(traits(dtype).block_elements), n}) {
            std::vector<float> want(static_cast<std::size_t>(some)), got(want.size());
            convert_row(dtype, row.data(), 0, some, DType::F32, want.data());
            GetParam()->widen(dtype, row.data(), some, got.data());
            EXPECT_EQ(got, want) << name(dtype);
        }
    }
}

TEST_P(WideKernelsOf, Gate) {
    constexpr std::size_t ff = 101;
    const auto gate_up = random_values(2 * ff, 1);
    std::vector<float> out(ff);
    GetParam()->silu_mul(gate_up.data(), gate_up.data() + ff, out.data(), ff);
    EXPECT_THAT(out, NearTo(reference::silu_mul(gate_up, ff), {1e-30, 1e-6}));
}

TEST_P(WideKernelsOf, Attend) {
    constexpr std::int64_t S = 133, group = 3, d_head = 24;
    for (const DType dtype : {DType::F32, DType::BF16}) {
        const auto q = random_values(S * group * d_head, 1);
        const auto k = random_values(S * d_head, 2, dtype), v = random_values(S * d_head, 3, dtype);
        std::vector<bf16> narrow_k, narrow_v;
        for (std::size_t i = 0; i < k.size(); ++i) {
            narrow_k.push_back(to_bf16(k[i]));
            narrow_v.push_back(to_bf16(v[i]));
        }
        std::vector<float> out(q.size());
        const bool narrow = dtype == DType::BF16;
        const GroupAttention task{
            .q = q.data(),
            .out = out.data(),
            .k = narrow ? static_cast<const void*>(narrow_k.data()) : k.data(),
            .v = narrow ? static_cast<const void*>(narrow_v.data()) : v.data(),
            .dtype = dtype,
            .first = 0,
            .n = S,
            .n_q = group,
            .group = group,
            .d_head = d_head};
        std::vector<float> scratch(std::size_t(GetParam()->attention_scratch(d_head)));
        for (std::int64_t lane = 0; lane < S * group; lane += GetParam()->attention_lanes)
            GetParam()->attention(task, lane,
                                  std::min(lane + GetParam()->attention_lanes, S * group),
                                  scratch.data());
        EXPECT_THAT(out,
                    NearTo(reference::attention(q, k, v, 0, S, group, 1, d_head), {1e-5, 1e-5}))
            << name(dtype);
    }
}

}  // namespace
}  // namespace cake
