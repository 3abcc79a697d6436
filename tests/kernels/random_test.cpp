#include "support/backends.h"

namespace cake {
namespace {

class Random : public OnEachBackend {
protected:
    std::vector<DType> types() {
        std::vector<DType> out = {DType::F32, DType::BF16};
        if (dev().name() == "cpu")
            out.push_back(DType::F16);
        return out;
    }
    std::vector<float> slice(const RandomMatrix& matrix, std::int64_t row, std::int64_t column,
                             Shape shape, DType dtype) {
        const Tensor out = dev().tensor(dtype, shape);
        dev().fill_random(stream, matrix, row, column, out);
        return download_floats(dev(), out);
    }
};
CAKE_ON_EACH_BACKEND(Random);

float rounded(float x, DType dtype) {
    return dtype == DType::BF16  ? to_float(to_bf16(x))
           : dtype == DType::F16 ? to_float(to_f16(x))
                                 : x;
}

// The last two rows and three columns of model.layers.1.mlp.down_proj.weight [2000, 1000] by seed 7, as they have always been.
TEST_P(Random, MakesTheNumbersThatItAlwaysMade) {
    const std::vector<float> want = {-0x1.b27946p-5f, -0x1.c7af42p-12f, 0x1.d28214p-7f,
                                     -0x1.5f0a42p-7f, 0x1.12686ep-7f,   0x1.b7867ap-5f};
    const RandomMatrix matrix{.key = 0xb26e55a7c84cb4b7, .columns = 1000, .range = 0x1.c0b1bep-4f};
    for (const DType dtype : types()) {
        std::vector<float> narrowed;
        for (const float x : want)
            narrowed.push_back(rounded(x, dtype));
        EXPECT_EQ(slice(matrix, 1998, 997, {2, 3}, dtype), narrowed) << name(dtype);
    }
}

// Shapes whose rows are vectors and shapes whose rows are not, of more than one block; places beyond 2^32.
TEST_P(Random, MakesEachNumberOfItsPlaceAlone) {
    const RandomMatrix matrix{.key = 11, .columns = 5'000'000'000, .range = 3};
    const std::int64_t row = 3, column = 4'999'990'000;
    for (const Shape shape :
         {Shape{1, 1}, {3, 8}, {2, 13}, {5, 576}, {2, 4160}, {1, 4099}, {300, 2}})
        for (const DType dtype : types()) {
            std::vector<float> want;
            for (std::int64_t i = 0; i < shape[0]; ++i)
                for (std::int64_t j = 0; j < shape[1]; ++j)
                    want.push_back(rounded(matrix.at(row + i, column + j), dtype));
            EXPECT_EQ(slice(matrix, row, column, shape, dtype), want)
                << shape.str() << " " << name(dtype);
        }
}

// More rows than a grid has.
TEST_P(Random, FillsTallMatrices) {
    const RandomMatrix matrix{.key = 5, .columns = 4, .range = 1};
    const std::int64_t rows = 2'100;
    const std::vector<float> all = slice(matrix, 2, 1, {rows, 1}, DType::F32);
    for (std::int64_t i = 0; i < rows; ++i)
        ASSERT_EQ(all[std::size_t(i)], matrix.at(2 + i, 1)) << "row " << i;
}

TEST_P(Random, WritesNothingBesideItsSlice) {
    const RandomMatrix matrix{.key = 5, .columns = 40, .range = 1};
    for (const std::int64_t m : {5, 16}) {
        const Tensor memory = upload(dev(), std::vector<float>(std::size_t(4 * m), 9), {4, m});
        dev().fill_random(stream, matrix, 0, 0, memory.view().rows(1, 2));
        const std::vector<float> all = download_floats(dev(), memory);
        for (std::int64_t j = 0; j < m; ++j) {
            EXPECT_EQ(all[std::size_t(j)], 9);
            EXPECT_NE(all[std::size_t(m + j)], 9);
            EXPECT_NE(all[std::size_t(2 * m + j)], 9);
            EXPECT_EQ(all[std::size_t(3 * m + j)], 9);
        }
    }
    dev().fill_random(stream, matrix, 0, 0, dev().tensor(DType::F32, {0, 7}));
    dev().fill_random(stream, matrix, 0, 0, dev().tensor(DType::F32, {7, 0}));
    dev().synchronize(stream);
}

TEST_P(Random, RefusesWhatItCannotMake) {
    const RandomMatrix matrix{.key = 5, .columns = 40, .range = 1};
    EXPECT_THROW(dev().fill_random(stream, matrix, 0, 33, dev().tensor(DType::F32, {1, 8})), Error);
    EXPECT_THROW(dev().fill_random(stream, matrix, 0, 0, dev().tensor(DType::F32, {8})), Error);
    EXPECT_THROW(dev().fill_random(stream, matrix, 0, 0, dev().tensor(DType::I32, {1, 8})), Error);
}

}  // namespace
}  // namespace cake
