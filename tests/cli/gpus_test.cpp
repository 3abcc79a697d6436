#include "cli/gpus.h"

#include <gmock/gmock.h>

#include "support/expect_error.h"
#include "support/thread_comm.h"

namespace cake {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

using Ids = std::vector<std::string>;

std::vector<VisibleGpus> ranks_that_see(const std::vector<Ids>& ids) {
    std::vector<VisibleGpus> ranks;
    for (const Ids& mine : ids)
        ranks.push_back({mine, mine.empty() ? "no driver is loaded" : ""});
    return ranks;
}

std::vector<int> deal(const std::vector<Ids>& ids, bool share = false) {
    return deal_gpus(ranks_that_see(ids), share);
}

std::string complaint(const std::vector<Ids>& ids) {
    return usage_message([&] { deal(ids); });
}

TEST(DealGpus, GivesLocalRankNTheNthOfThoseThatAllSee) {
    EXPECT_THAT(deal({{"a", "b", "c"}, {"a", "b", "c"}, {"a", "b", "c"}}), ElementsAre(0, 1, 2));
    EXPECT_THAT(deal({{"a", "b", "c"}, {"a", "b", "c"}}), ElementsAre(0, 1));
}

TEST(DealGpus, GivesEachTaskOfSlurmTheOneThatItSees) {
    EXPECT_THAT(deal({{"a"}, {"b"}, {"c"}, {"d"}}), ElementsAre(0, 0, 0, 0));
}

TEST(DealGpus, PassesOverWhatALowerRankHas) {
    EXPECT_THAT(deal({{"a", "b"}, {"b", "a"}}), ElementsAre(0, 0));
    EXPECT_THAT(deal({{"a", "b"}, {"c", "d"}, {"a", "b"}, {"c", "d"}}), ElementsAre(0, 0, 1, 1));
    EXPECT_THAT(deal({{"a", "b"}, {"a", "b"}, {"a", "b", "c"}}), ElementsAre(0, 1, 2));
    EXPECT_THAT(deal({{"a", "b"}, {"a"}}), ElementsAre(1, 0));  // who sees one has no choice
}

TEST(DealGpus, RefusesMoreRanksThanGpus) {
    EXPECT_THAT(complaint({{"a", "b"}, {"a", "b"}, {"a", "b"}}),
                AllOf(HasSubstr("3 ranks of a host see 2 GPUs in all"), HasSubstr("local rank 2"),
                      HasSubstr("--share-gpu")));
}

// As where CUDA_VISIBLE_DEVICES is exported by hand: to each rank its GPU seems to be its own.
TEST(DealGpus, NoticesThatTwoRanksSeeTheSameSingleGpu) {
    EXPECT_THAT(complaint({{"a"}, {"b"}, {"a"}}), HasSubstr("local rank 2"));
}

TEST(DealGpus, LetsRanksShareEvenlyWhereTheyMay) {
    EXPECT_THAT(deal({{"a"}, {"a"}}, true), ElementsAre(0, 0));
    EXPECT_THAT(deal({{"a", "b"}, {"a", "b"}, {"a", "b"}, {"a", "b"}, {"a", "b"}}, true),
                ElementsAre(0, 1, 0, 1, 0));
    EXPECT_THAT(deal({{"a"}, {"a", "b"}, {"a", "b"}}, true), ElementsAre(0, 1, 0));
}

TEST(DealGpus, LeavesARankThatSeesNoneWithout) {
    EXPECT_THAT(deal({{"a"}, {}, {"b"}}), ElementsAre(0, -1, 0));
}

GpuSurvey survey(const std::vector<Ids>& local, bool everywhere) {
    return {ranks_that_see(local), true, everywhere};
}

TEST(ChooseGpu, TakesTheCpuWhereItIsAskedTo) {
    EXPECT_EQ(choose_gpu("cpu", false, survey({{"a"}}, true), 0), std::nullopt);
    EXPECT_EQ(choose_gpu("cpu", false, {}, 0), std::nullopt);
}

TEST(ChooseGpu, TakesTheCpuByItselfWhereARankSeesNoGpu) {
    EXPECT_EQ(choose_gpu("auto", false, survey({{"a", "b"}, {"a", "b"}}, true), 1), 1);
    EXPECT_EQ(choose_gpu("auto", false, survey({{"a", "b"}, {"a", "b"}}, false), 1), std::nullopt);
    EXPECT_EQ(choose_gpu("auto", false, survey({{}}, false), 0), std::nullopt);
}

TEST(ChooseGpu, SaysWhyThereIsNoneInOneLine) {
    const std::string message = usage_message([] {
        choose_gpu("cuda", false, survey({{"a"}, {}}, false), 1);
    });
    EXPECT_THAT(message, AllOf(HasSubstr("no driver is loaded"), HasSubstr("`cake version`"),
                               HasSubstr("--backend cpu"), testing::Not(HasSubstr("\n"))));
    EXPECT_EQ(choose_gpu("cuda", false, survey({{"a"}, {}}, false), 0), 0);
}

TEST(ChooseGpu, DoesNotFallBackToTheCpuForWantOfGpus) {
    for (const char* backend : {"auto", "cuda"}) {
        EXPECT_NE(usage_message([&] {
                      choose_gpu(backend, false, survey({{"a"}, {"a"}}, true), 0);
                  }),
                  "");
        EXPECT_EQ(choose_gpu(backend, true, survey({{"a"}, {"a"}}, true), 1), 0);
    }
}

TEST(RanksOnGpu, CountsThoseThatWereGivenTheSame) {
    const GpuSurvey five = survey({{"a", "b"}, {"a", "b"}, {"b"}, {}, {"a", "b"}}, false);
    EXPECT_EQ(ranks_on_gpu(true, five, 0), 2);  // a: ranks 0 and 4
    EXPECT_EQ(ranks_on_gpu(true, five, 1), 2);  // b: ranks 1 and 2
    EXPECT_EQ(ranks_on_gpu(true, five, 2), 2);
    EXPECT_EQ(ranks_on_gpu(true, five, 4), 2);
    EXPECT_EQ(ranks_on_gpu(false, survey({{"a", "b"}, {"a", "b"}}, true), 1), 1);
}

// Two hosts of two ranks.
TEST(SurveyGpus, ShowsARankWhatThoseOfItsHostSee) {
    for (const bool one_sees_none : {false, true})
        run_ranks(4, [&](Communicator& all) {
            const auto local = all.split(all.rank() / 2);
            VisibleGpus mine{{fmt::format("host {}: a", all.rank() / 2), "b"}, ""};
            if (all.rank() == 3 && one_sees_none)
                mine = {{}, "no \"driver\"\n is loaded"};
            const GpuSurvey seen = survey_gpus(all, *local, mine);
            ASSERT_EQ(seen.local.size(), 2u);
            EXPECT_EQ(seen.local[std::size_t(local->rank())].bus_ids, mine.bus_ids);
            EXPECT_EQ(seen.local[std::size_t(local->rank())].why_none, mine.why_none);
            EXPECT_EQ(seen.local[0].bus_ids[0], fmt::format("host {}: a", all.rank() / 2));
            EXPECT_EQ(seen.everywhere, !one_sees_none);
            EXPECT_TRUE(seen.somewhere);
        });
}

}  // namespace
}  // namespace cake
