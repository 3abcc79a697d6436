#include "io/dequant.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include <gmock/gmock.h>

#include "io/float_convert.h"
#include "support/quantize.h"
#include "support/reference_dequant.h"

namespace cake {
namespace {

std::vector<float> floats(DType from, std::span<const std::byte> row, std::int64_t first,
                          std::int64_t n) {
    std::vector<float> out(static_cast<std::size_t>(n), -77.0f);
    convert_row(from, row.data(), first, n, DType::F32, out.data());
    return out;
}

// A row of every type that can be a weight.
class EveryWeightType : public testing::TestWithParam<DType> {
protected:
    static constexpr std::int64_t n = 1536;
    void SetUp() override {
        std::mt19937 random(unsigned(GetParam()) + 1);
        row_ = random_row(GetParam(), n, random);
    }
    std::vector<std::byte> row_;
};

INSTANTIATE_TEST_SUITE_P(, EveryWeightType, testing::ValuesIn(weight_types),
                         [](const auto& info) { return std::string(name(info.param)); });

TEST_P(EveryWeightType, MeansWhatItsDescriptionSays) {
    ASSERT_TRUE(is_weight_type(GetParam()));
    const std::vector<float> got = floats(GetParam(), row_, 0, n);
    std::vector<double> want;
    for (std::int64_t i = 0; i < n; ++i)
        want.push_back(reference_element(GetParam(), row_.data(), i));
    // Terms as large as the largest element may cancel: a few roundings of that.
    const double most = std::abs(*std::max_element(
        want.begin(), want.end(), [](double a, double b) { return std::abs(a) < std::abs(b); }));
    for (std::size_t i = 0; i < got.size(); ++i)
        ASSERT_NEAR(got[i], want[i], 4 * 0x1p-24 * most) << "element " << i;
}

TEST_P(EveryWeightType, IsCutAnywhere) {
    const std::vector<float> whole = floats(GetParam(), row_, 0, n);
    for (std::int64_t first : {0, 1, 31, 32, 33, 255, 256, 300, 1500})
        for (std::int64_t size : {0, 1, 2, 30, 32, 36, 64, 200, 257, 700}) {
            if (first + size > n)
                continue;
            const std::vector<float> part(whole.begin() + first, whole.begin() + first + size);
            ASSERT_EQ(floats(GetParam(), row_, first, size), part) << first << " " << size;
        }
}

TEST_P(EveryWeightType, IsRoundedToNearestAsHalf) {
    // More elements than one stretch of the conversion, from an odd place.
    std::mt19937 random(9);
    const std::vector<std::byte> row = random_row(GetParam(), 6 * n, random);
    const std::int64_t first = 77, size = 6 * n - 100;
    const std::vector<float> exact = floats(GetParam(), row, first, size);
    std::vector<bf16> brain(exact.size());
    std::vector<f16> half(exact.size());
    convert_row(GetParam(), row.data(), first, size, DType::BF16, brain.data());
    convert_row(GetParam(), row.data(), first, size, DType::F16, half.data());
    for (std::size_t i = 0; i < exact.size(); ++i) {
        ASSERT_EQ(brain[i].bits, to_bf16(exact[i]).bits) << i;
        ASSERT_EQ(half[i].bits, to_f16(exact[i]).bits) << i;
    }
}

TEST_P(EveryWeightType, NeedsNoAlignment) {
    std::vector<std::byte> shifted(row_.size() + 1);
    std::copy(row_.begin(), row_.end(), shifted.begin() + 1);
    EXPECT_EQ(floats(GetParam(), std::span(shifted).subspan(1), 0, n),
              floats(GetParam(), row_, 0, n));
}

// Values of gguf-py 0.19.0 (gguf.dequantize), the format authors' own: byte i of the block is
// 89 * i + 41 mod 256, except d = 0.125 and m or dm = -0.5.
TEST(Dequant, AgreesWithTheAuthorsOfTheFormat) {
    struct Case {
        DType dtype;
        std::vector<std::pair<int, float>> elements;
        double sum;
    };
    const Case cases[] = {
        {DType::Q4_0, {{0, 0.375f}, {1, -0.5f}, {15, -0.75f}, {16, 0.625f}, {31, -0.875f}}, -1.125},
        {DType::Q4_1, {{0, 1.125f}, {1, 0.25f}, {15, 0}, {16, 0.5f}, {31, 1}}, 15.125},
        {DType::Q5_0, {{0, 1.875f}, {1, 1}, {15, -1.25f}, {16, 0.375f}, {31, 0.875f}}, 1.375},
        {DType::Q5_1, {{0, 1.625f}, {1, 0.75f}, {15, 2.5f}, {16, 3.375f}, {31, 1.75f}}, 49.625},
        {DType::Q8_0, {{0, -4.625f}, {1, 6.5f}, {15, 2.25f}, {16, 13.375f}, {31, -11.75f}}, -38},
        {DType::Q4_K,
         {{0, 39.125f},
          {31, 24.5f},
          {32, 57.25f},
          {100, 39},
          {150, 95.875f},
          {191, 106},
          {255, 83}},
         13315},
        {DType::Q5_K,
         {{0, 65.125f}, {31, 24.5f}, {32, 66.75f}, {100, 93}, {150, 169.875f}, {201, 38.75f}},
         22037},
        {DType::Q6_K,
         {{0, 20.125f}, {31, -264}, {32, -113.625f}, {100, 2.75f}, {150, 38.75f}, {240, -60}},
         -1051.5},
    };
    for (const Case& c : cases) {
        std::vector<std::byte> block(std::size_t(traits(c.dtype).block_bytes));
        for (std::size_t i = 0; i < block.size(); ++i)
            block[i] = std::byte(89 * i + 41);
        const f16 scales[] = {to_f16(0.125f), to_f16(-0.5f)};
        const bool two = c.dtype == DType::Q4_1 || c.dtype == DType::Q5_1 ||
                         c.dtype == DType::Q4_K || c.dtype == DType::Q5_K;
        std::memcpy(block.data() + (c.dtype == DType::Q6_K ? 208 : 0), scales, two ? 4 : 2);
        const std::vector<float> got = floats(c.dtype, block, 0, traits(c.dtype).block_elements);
        double sum = 0;
        for (float x : got)
            sum += x;
        EXPECT_EQ(sum, c.sum) << name(c.dtype);
        for (auto [i, value] : c.elements)
            EXPECT_EQ(got[std::size_t(i)], value) << name(c.dtype) << " element " << i;
    }
}

TEST(Dequant, RefusesTypesThatAreNoWeights) {
    const std::byte row[64] = {};
    float out[8];
    for (DType dtype : {DType::F64, DType::I32, DType::I64, DType::U8}) {
        EXPECT_FALSE(is_weight_type(dtype));
        EXPECT_THROW(convert_row(dtype, row, 0, 8, DType::F32, out), Error);
        EXPECT_THROW(convert_row(DType::F32, row, 0, 2, dtype, out), Error);
    }
}

TEST(Dequant, UndoesTheQuantiserOfTheTests) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    std::vector<float> values(320);
    for (float& x : values)
        x = normal(random);
    for (auto [dtype, step] : {std::pair(DType::Q8_0, 3.5 / 127), std::pair(DType::Q4_0, 3.5 / 7),
                               std::pair(DType::Q4_1, 7.0 / 15)}) {
        const std::vector<float> got = floats(dtype, quantized(dtype, values), 0, 320);
        for (std::size_t i = 0; i < got.size(); ++i)
            ASSERT_NEAR(got[i], values[i], 0.52 * step) << name(dtype) << " " << i;
    }
}

TEST(FloatConvert, WidensEveryHalfAsBaseDoes) {
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits)
        ASSERT_EQ(std::bit_cast<std::uint32_t>(widen(bits)),
                  std::bit_cast<std::uint32_t>(to_float(f16{std::uint16_t(bits)})))
            << bits;
}

TEST(FloatConvert, NarrowsAsBaseDoes) {
    // Every float that differs from a half or a bf16 by little, and random ones.
    std::mt19937 random(5);
    const auto check = [](std::uint32_t bits) {
        const auto x = std::bit_cast<float>(bits);
        ASSERT_EQ(narrow_to_bf16(x), to_bf16(x).bits) << bits;
        ASSERT_EQ(narrow_to_f16(x), to_f16(x).bits) << bits;
    };
    for (std::uint32_t high = 0; high < 0x80000;
         ++high)  // upper 19 bits: all of an f16, and a half
        for (std::uint32_t low : {0u, 1u, 0xfffu, 0x1000u, 0x1001u, 0x1fffu})
            check(high << 13 | low);
    for (int i = 0; i < 1'000'000; ++i)
        check(std::uint32_t(random()));
}

}  // namespace
}  // namespace cake
