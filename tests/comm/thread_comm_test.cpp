// Ranks as threads free each other where a test would hang.
#include "support/thread_comm.h"

#include <atomic>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cake {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

void sum_of_one(Communicator& comm) {
    std::vector<double> x{1};
    comm.sum(x);
}

TEST(ThreadComm, FreesRanksThatWaitForOneThatThrew) {
    std::atomic<int> freed = 0;
    const auto run = [&] {
        run_ranks(4, [&](Communicator& comm) {
            if (comm.rank() == 2)
                throw std::runtime_error("rank 2 gives up");
            try {
                sum_of_one(comm);
            } catch (const Error&) {
                ++freed;
                throw;
            }
        });
    };
    EXPECT_THAT(run, ThrowsMessage<std::runtime_error>("rank 2 gives up"));
    EXPECT_EQ(freed, 3);
}

TEST(ThreadComm, FreesRanksThatWaitInAnotherGroup) {
    const auto run = [] {
        run_ranks(4, [](Communicator& comm) {
            const auto pair = comm.split(comm.rank() / 2);
            for (int i = 0; i < 50; ++i)
                sum_of_one(*pair);
            if (comm.rank() == 3)
                throw std::runtime_error("rank 3 gives up");
            if (comm.rank() != 1)
                sum_of_one(*pair);
            else
                sum_of_one(comm);
        });
    };
    EXPECT_THAT(run, ThrowsMessage<std::runtime_error>("rank 3 gives up"));
}

TEST(ThreadComm, FreesRanksThatComeLate) {
    std::atomic<bool> threw = false;
    const auto run = [&] {
        run_ranks(2, [&](Communicator& comm) {
            if (comm.rank() == 0) {
                threw = true;
                throw std::runtime_error("rank 0 gives up");
            }
            while (!threw)
                std::this_thread::yield();
            for (;;)
                comm.barrier();
        });
    };
    EXPECT_THAT(run, ThrowsMessage<std::runtime_error>("rank 0 gives up"));
}

TEST(ThreadComm, FreesRanksThatWaitForOneThatReturned) {
    const auto run = [] {
        run_ranks(3, [](Communicator& comm) {
            if (comm.rank() != 1)
                sum_of_one(comm);
        });
    };
    EXPECT_THAT(run, ThrowsMessage<Error>(HasSubstr("rank 1 of 3 returned while others wait")));
}

TEST(ThreadComm, LetsARankReturnAfterItsLastCollective) {
    for (int i = 0; i < 200; ++i)
        run_ranks(3, [](Communicator& comm) {
            const auto group = comm.split(comm.rank() == 0 ? 0 : 1);
            for (int k = 0; k < 3 * group->size(); ++k)
                sum_of_one(*group);
        });
}

TEST(ThreadComm, SaysWhichDifferentCallsMet) {
    const auto run = [] {
        run_ranks(2, [](Communicator& comm) {
            if (comm.rank() == 0)
                comm.gather_strings("zero");
            else
                comm.barrier();
        });
    };
    EXPECT_THAT(run, ThrowsMessage<Error>(
                         testing::AllOf(HasSubstr("gather_strings"), HasSubstr("barrier"))));
}

TEST(ThreadComm, RefusesSumsOfDifferentLengths) {
    const auto run = [] {
        run_ranks(3, [](Communicator& comm) {
            std::vector<double> x(comm.rank() == 2 ? 4 : 3);
            comm.sum(x);
        });
    };
    EXPECT_THAT(run, ThrowsMessage<Error>(HasSubstr("sum of 4")));
}

TEST(ThreadComm, EndsAWaitAtTheDeadline) {
    std::atomic<bool> over = false;
    const auto run = [&] {
        run_ranks(
            2,
            [&](Communicator& comm) {
                if (comm.rank() == 0) {
                    while (!over)
                        std::this_thread::yield();  // neither returns nor joins
                    return;
                }
                try {
                    comm.barrier();
                } catch (...) {
                    over = true;
                    throw;
                }
            },
            std::chrono::milliseconds(100));
    };
    EXPECT_THAT(run,
                ThrowsMessage<Error>(HasSubstr("1 of 2 ranks wait in barrier past the deadline")));
}

TEST(ThreadComm, RunsRanksAtTheSameTime) {
    std::atomic<int> here = 0;
    run_ranks(3, [&](Communicator&) {
        ++here;
        while (here < 3)
            std::this_thread::yield();
    });
    EXPECT_EQ(here, 3);
}

}  // namespace
}  // namespace cake
