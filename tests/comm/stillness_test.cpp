#include "comm/stillness.h"

#include <gtest/gtest.h>

namespace cake {
namespace {

TEST(Stillness, CountsFromTheLastMove) {
    Stillness still(1);
    EXPECT_EQ(still.look(100, 7), 0);
    EXPECT_EQ(still.look(100.5, 7), 0.5);
    EXPECT_EQ(still.look(101, 7), 1);
    EXPECT_EQ(still.look(101.5, 8), 0);
    EXPECT_EQ(still.look(102, 8), 0.5);
}

TEST(Stillness, DoesNotCountTimeInWhichNobodyLooked) {
    Stillness still(0.5);
    still.look(0, 1);
    EXPECT_EQ(still.look(1000, 1), 0.5) << "a job that was stopped, and went on";
    EXPECT_EQ(still.look(1000.25, 1), 0.75);
}

}  // namespace
}  // namespace cake
