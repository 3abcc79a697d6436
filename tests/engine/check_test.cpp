// --check finds what it is there to find.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/evict.h"
#include "support/thread_comm.h"

namespace cake::test {
namespace {

TEST(Check, SaysWhereBudgetsDiffer) {
    run_ranks(3, [](Communicator& comm) {
        const std::vector<int> equal{1, 2, 3};
        EXPECT_NO_THROW(check_equal_on_all_ranks(comm, equal, "budgets"));
        const std::vector<int> other{1, comm.rank() == 2 ? 5 : 2, 3};
        try {
            check_equal_on_all_ranks(comm, other, "budgets");
            ADD_FAILURE() << "nothing was found";
        } catch (const Error& e) {
            EXPECT_THAT(e.what(), testing::HasSubstr("budgets differ between rank 0 and rank 2"));
        }
    });
}

TEST(Check, FindsCopiesOfASharedKvHeadThatHoldOtherTokens) {
    for (const bool same : {true, false})
        run_ranks(2, [&](Communicator& comm) {
            auto dev = make_cpu_backend(1);
            const PageLayout layout{.n_kv = 1, .page_tokens = 4, .d_head = 8, .dtype = DType::F32};
            PagePool pool(*dev, layout, 4);
            SequenceCache cache(pool, 1);
            const Tensor k = dev->tensor(DType::F32, {1, 20, 8});
            dev->fill_zero({}, k);
            const Tensor keep = dev->tensor(DType::I32, {1, 1});
            keep.span<std::int32_t>()[0] = same ? 7 : 7 + comm.rank();
            cache.store(*dev, {}, 0, k, k, 3, keep);
            cache.order(*dev, {}, DecodeOrder::Position);
            PhaseClock times(*dev);
            const Rank rank{*dev, comm, &times, {}, &comm};
            if (same)
                EXPECT_NO_THROW(check_equal_copies(rank, Policy{}, cache));
            else
                EXPECT_THROW(check_equal_copies(rank, Policy{}, cache), Error);
        });
}

}  // namespace
}  // namespace cake::test
