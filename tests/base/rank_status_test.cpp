#include "base/rank_status.h"

#include <cstdlib>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace cake {
namespace {

TEST(RankStatus, SaysWhatTheRankIsAt) {
    RankStatus status(3, "node7");
    EXPECT_EQ(place(status.read()), "start");
    const std::uint64_t before = status.read().progress;
    status.at(RunPart::Prefill, 12);
    EXPECT_EQ(place(status.read()), "prefill, layer 12");
    status.enter(Call::AllReduce, 5, 77);
    const Whereabouts waits = status.read();
    EXPECT_EQ(waits.call, Call::AllReduce);
    EXPECT_EQ(waits.group, 5u);
    EXPECT_EQ(waits.number, 77u);
    status.leave();
    EXPECT_EQ(status.read().call, Call::None);
    EXPECT_EQ(status.read().progress, before + 3);
}

TEST(RankStatus, IsReadByOthersFromItsPage) {
    RankStatus status(0, "here");
    ASSERT_GE(status.file(), 0);
    const auto page = map_page(getpid(), status.file(), status.page().nonce);
    ASSERT_TRUE(page);
    status.at(RunPart::Decode, 4);
    EXPECT_EQ(place(page->read()), "decode, layer 4");
    status.end();
    EXPECT_EQ(page->ending, RankStatus::Ending::InGoodOrder);
}

// A process of another namespace may have the same number.
TEST(RankStatus, IsNotTakenForAnotherProcess) {
    const RankStatus status(0, "here");
    EXPECT_FALSE(map_page(getpid(), status.file(), status.page().nonce + 1));
    EXPECT_FALSE(map_page(getpid(), 9999, status.page().nonce));
    EXPECT_FALSE(map_page(getpid(), 0, status.page().nonce));
}

TEST(RankStatus, HasOneLastWord) {
    RankStatus status(0, "here");
    status.at(RunPart::Load, 1);
    testing::internal::CaptureStderr();
    status.last_word(7, "no such page");
    status.last_word(8, "again");
    EXPECT_EQ(testing::internal::GetCapturedStderr(),
              "cake: error: rank 0 on here, load, layer 1: no such page\n");
    EXPECT_EQ(status.page().ending, RankStatus::Ending::Said);
    EXPECT_EQ(status.page().exit_code, 7);
}

class PlantedFault : public testing::Test {
protected:
    void SetUp() override {
        if (std::getenv("CAKE_FAULT"))
            GTEST_SKIP() << "CAKE_FAULT is set";
    }
    void TearDown() override { unsetenv("CAKE_FAULT"); }
};

TEST_F(PlantedFault, StrikesOnceTheRankIsThere) {
    setenv("CAKE_FAULT", "rank=1 part=prefill layer=2 how=throw", 1);
    RankStatus other(0, "here"), chosen(1, "here");
    EXPECT_NO_THROW(other.at(RunPart::Prefill, 2));
    EXPECT_NO_THROW(chosen.at(RunPart::Decode, 2));
    EXPECT_NO_THROW(chosen.at(RunPart::Prefill, 1));
    EXPECT_THROW(chosen.at(RunPart::Prefill, 2), std::runtime_error);
}

TEST_F(PlantedFault, IsRefusedWhereItIsNotUnderstood) {
    for (const char* fault : {"rank=1 part=prefill how=sing", "rank=one how=kill", "when=now"}) {
        setenv("CAKE_FAULT", fault, 1);
        EXPECT_THROW(RankStatus(0, "here"), Error) << fault;
    }
}

}  // namespace
}  // namespace cake
