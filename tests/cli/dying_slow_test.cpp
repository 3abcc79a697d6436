// Each way of dying, at each part of a run, on 2 and 3 ranks. With CAKE_DYING_TABLE=FILE the figures of docs/launch.md
// are appended there: way, part, ranks, seconds from the start to the end of the last process, the deadline among them,
// exit code.
#include <gtest/gtest.h>

#include "cli/dying_fixture.h"

namespace cake::test {
namespace {

class EveryDeath : public DyingRank,
                   public testing::WithParamInterface<std::tuple<WayToDie, const char*>> {};

TEST_P(EveryDeath, EndsAllSoonAndSaysWhy) {
    const auto& [way, part] = GetParam();
    for (int ranks : {2, 3})
        expect_end(way, part, ranks);
}

INSTANTIATE_TEST_SUITE_P(Rank, EveryDeath,
                         testing::Combine(testing::ValuesIn(kWaysToDie),
                                          testing::Values("load", "prefill", "decode", "write")),
                         [](const auto& info) {
                             return std::string(std::get<0>(info.param).how) + "_" +
                                    std::get<1>(info.param);
                         });

}  // namespace
}  // namespace cake::test
