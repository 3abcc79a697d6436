// What ranks know of each other, and that those that are slow are not accused. How a run ends when a rank dies or hangs:
// tests/cli/dying_test.cpp.
#include "comm/watchdog.h"

#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "base/log.h"
#include "base/timer.h"
#include "comm/watched.h"
#include "mpi_main.h"

namespace cake {
namespace {

void sleep_s(double seconds) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

// On one host, or as if each rank were on another.
class WatchdogTest : public testing::TestWithParam<bool> {
protected:
    World& world = test_world();
    RankStatus mine{world.rank(), host_name()};
    int last = world.size() - 1;
    static constexpr double kDeadline_s = 1;

    std::unique_ptr<Peers> peers() {
        return std::make_unique<Peers>(mine, world.comm(), world.local_comm(), GetParam());
    }
};

TEST_P(WatchdogTest, KnowsWhatOtherRanksAreAt) {
    const auto others = peers();
    EXPECT_EQ(others->neighbours().size(), GetParam() ? std::size_t(world.size() - 1) : 0u);
    mine.at(RunPart::Prefill, world.rank());
    world.comm().barrier();
    for (int r = 0; r < world.size(); ++r) {
        EXPECT_EQ(others->host(r), host_name());
        const Timer timer;
        while (others->at(r).layer != r && timer.seconds() < 20) {
            others->exchange(timer.seconds(), 0.01);
            sleep_s(0.001);
        }
        EXPECT_EQ(place(others->at(r)), fmt::format("prefill, layer {}", r));
    }
    const Timer timer;  // others may wait for what this one sends
    while (timer.seconds() < 0.2)
        others->exchange(timer.seconds() + 100, 0.01);
    world.comm().barrier();
}

// A false alarm would end the test.
TEST_P(WatchdogTest, DoesNotAccuseARankThatIsSlow) {
    Watchdog watchdog(mine, peers(), [](int) { FAIL() << "accused"; });
    watchdog.set_deadline(kDeadline_s);
    mine.at(RunPart::Decode, 0);
    const auto group = make_watched_communicator(world.comm().split(0), watchdog,
                                                 world_ranks(world.comm(), world.rank()));
    for (int step = 0; world.rank() == last && step < 12; ++step) {  // three deadlines
        mine.at(RunPart::Decode, step);
        sleep_s(kDeadline_s / 4);
    }
    group->barrier();
    EXPECT_EQ(group->split(world.rank() % 2)->size(), (world.size() + 1 - world.rank() % 2) / 2);
}

TEST_P(WatchdogTest, DoesNotAccuseARankThatWaitsForPeople) {
    Watchdog watchdog(mine, peers(), [](int) { FAIL() << "accused"; });
    watchdog.set_deadline(kDeadline_s);
    mine.at(RunPart::Decode, 0);
    const auto group = make_watched_communicator(world.comm().split(0), watchdog,
                                                 world_ranks(world.comm(), world.rank()));
    if (world.rank() == 0) {
        mine.at(RunPart::Input);
        sleep_s(5 * kDeadline_s);  // a rank that is at its start has four
    }
    group->barrier();
}

INSTANTIATE_TEST_SUITE_P(Hosts, WatchdogTest, testing::Values(true, false),
                         [](const auto& info) { return info.param ? "OfOneHost" : "OfSeveral"; });

}  // namespace
}  // namespace cake
