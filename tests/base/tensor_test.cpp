#include "base/tensor.h"

#include <gtest/gtest.h>

namespace cake {
namespace {

TEST(Tensor, OfBlocksHasRowsOfWholeBlocks) {
    const Tensor t = Tensor::host(DType::Q4_1, {6, 64});
    EXPECT_EQ(t.bytes(), 6u * 2 * 20);
    const View rows = t.view().rows(2, 3);
    EXPECT_EQ(rows.bytes(), 3u * 2 * 20);
    EXPECT_EQ(static_cast<std::byte*>(rows.data()) - static_cast<std::byte*>(t.view().data()),
              2 * 2 * 20);
}

TEST(Tensor, OfBlocksRefusesShapesThatSplitThem) {
    EXPECT_THROW(Tensor::host(DType::Q4_1, {4, 48}), Error);
    EXPECT_THROW(Tensor::host(DType::Q6_K, {4, 64}), Error);
    const Tensor t = Tensor::host(DType::Q8_0, {64, 32});
    EXPECT_THROW(t.view().reshaped({32, 48}), Error);
    EXPECT_THROW(t.view().reshaped({64}).rows(1, 2), Error);
    EXPECT_EQ(t.view().reshaped({32, 64}).row(1).bytes(), 68u);
}

}  // namespace
}  // namespace cake
