// NCCL's host side, over a library that stands in for NCCL and CUDA (support/fake_nccl). On GPUs the same cases run in
// nccl_mpi_test.cpp.
#include <array>
#include <cstdlib>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/communicator_cases.h"
#include "comm/nccl.h"
#include "support/expect_error.h"
#include "support/fake_nccl/fake_nccl.h"
#include "support/thread_comm.h"

namespace cake {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

NcclDevice gpu(int index) {
    use_fake_gpu(index);
    return {.cuda_stream = [](Stream) { return nullptr; }};
}

// Ranks as threads, each with a GPU of its own.
void run_nccl_ranks(int n, const std::function<void(Communicator& comm)>& body) {
    run_ranks(n, [&](Communicator& threads) {
        const auto comm = make_nccl_communicator(threads.split(0), gpu(threads.rank()));
        body(*comm);
    });
}

class NcclCommunicator : public testing::Test {
protected:
    void SetUp() override {
        change_fake_nccl([](FakeNccl& fake) { fake = {}; });
    }
    void TearDown() override {
        const FakeNccl fake = fake_nccl();
        EXPECT_EQ(fake.communicators, 0);
        EXPECT_EQ(fake.windows, 0);
        EXPECT_EQ(fake.allocations, 0);
    }
};

class NcclContract : public NcclCommunicator,
                     public testing::WithParamInterface<std::tuple<NamedCase, int>> {};

TEST_P(NcclContract, Keeps) {
    const auto& [test, ranks] = GetParam();
    run_nccl_ranks(ranks, test.run);
    EXPECT_EQ(fake_nccl().aborted, 0);
}

INSTANTIATE_TEST_SUITE_P(Contract, NcclContract,
                         testing::Combine(testing::ValuesIn(cases_whatever_the_order()),
                                          testing::Values(1, 2, 3)),
                         [](const auto& info) {
                             return fmt::format("{}On{}", std::get<0>(info.param).name,
                                                std::get<1>(info.param));
                         });

TEST_F(NcclCommunicator, DoesNotStartNcclForOneRank) {
    run_nccl_ranks(1, [](Communicator& comm) { adds_whole_numbers(comm, 10); });
    EXPECT_EQ(fake_nccl().unique_ids, 0);
}

TEST_F(NcclCommunicator, GathersPartsOfOneLengthInOneCall) {
    run_nccl_ranks(2, gathers_into_place);
    EXPECT_THAT(fake_nccl().calls, ElementsAre("AllGather"));
}

TEST_F(NcclCommunicator, RefusesTwoRanksOnOneGpuBeforeNcclSeesThem) {
    const std::string message = usage_message([] {
        run_ranks(3, [](Communicator& threads) {
            make_nccl_communicator(threads.split(0), gpu(threads.rank() / 2));
        });
    });
    EXPECT_THAT(message, AllOf(HasSubstr("ranks 0 and 1 have the same GPU"),
                               HasSubstr("0000:01:00.0"), HasSubstr("--share-gpu")));
    EXPECT_EQ(fake_nccl().unique_ids, 0);
}

TEST_F(NcclCommunicator, LeavesTwoRanksOnOneGpuToANcclThatTakesThem) {
    const auto share = [] {
        run_ranks(2, [](Communicator& threads) {
            adds_bf16(*make_nccl_communicator(threads.split(0), gpu(0)));
        });
    };
    setenv("NCCL_MULTI_RANK_GPU_ENABLE", "1", 1);
    EXPECT_THAT(usage_message(share), HasSubstr("NCCL 2.28.9"));
    change_fake_nccl([](FakeNccl& fake) { fake.version = 23007; });
    EXPECT_NO_THROW(share());
    unsetenv("NCCL_MULTI_RANK_GPU_ENABLE");
}

std::string failure(const std::function<void()>& body) {
    try {
        body();
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

TEST_F(NcclCommunicator, GivesUpWhereRanksDoNotFindEachOther) {
    change_fake_nccl([](FakeNccl& fake) { fake.starts = false; });
    const std::string message = failure([] {
        run_ranks(2, [](Communicator& threads) {
            NcclDevice device = gpu(threads.rank());
            device.start_within = std::chrono::milliseconds(50);
            make_nccl_communicator(threads.split(0), device);
        });
    });
    EXPECT_THAT(message, AllOf(HasSubstr("ncclCommInitRankConfig (nccl.cpp:"),
                               HasSubstr("not done after 0.05 s")));
    EXPECT_EQ(fake_nccl().aborted, 2);
}

TEST_F(NcclCommunicator, ReportsAFailingNetworkWhileTheHostWaits) {
    run_ranks(2, [](Communicator& threads) {
        std::function<void()> look;
        NcclDevice device = gpu(threads.rank());
        device.while_waiting = [&](std::function<void()> f) {
            look = std::move(f);
            return std::make_shared<int>();
        };
        const auto comm = make_nccl_communicator(threads.split(0), device);
        adds_whole_numbers(*comm, 10);
        EXPECT_NO_THROW(look());
        comm->barrier();
        change_fake_nccl([](FakeNccl& fake) { fake.network_fails = true; });
        const auto says_why = AllOf(HasSubstr("remote error"), HasSubstr("last words"));
        EXPECT_THAT(failure(look), says_why);
        // So does every call from now on.
        std::vector<float> x(3);
        EXPECT_THAT(failure([&] { comm->all_reduce_sum(Stream{}, view_of(x)); }), says_why);
        EXPECT_THAT(failure([&] { comm->barrier(); }), says_why);
    });
    EXPECT_EQ(fake_nccl().aborted, 2);
}

TEST_F(NcclCommunicator, GivesUpBeforeTheGraphsThatHoldItsKernelsAreGone) {
    run_ranks(2, [](Communicator& threads) {
        const auto comm = make_nccl_communicator(threads.split(0), gpu(threads.rank()));
        comm->barrier();
        change_fake_nccl([](FakeNccl& fake) {
            fake.graphs = 1;
            fake.network_fails = true;
        });
        EXPECT_THAT(failure([&] { comm->barrier(); }), HasSubstr("remote error"));
        EXPECT_EQ(fake_nccl().communicators, 2) << "NCCL waits";
        threads.barrier();
        change_fake_nccl([](FakeNccl& fake) { fake.graphs = 0; });
    });
    EXPECT_EQ(fake_nccl().aborted, 2);
}

// Nobody looks after what is gone, and a group is looked after like the whole.
TEST_F(NcclCommunicator, IsLookedAfterAsLongAsItLives) {
    run_ranks(2, [](Communicator& threads) {
        std::vector<std::weak_ptr<void>> watched;
        NcclDevice device = gpu(threads.rank());
        device.while_waiting = [&](std::function<void()>) {
            auto handle = std::make_shared<int>();
            watched.push_back(handle);
            return handle;
        };
        auto comm = make_nccl_communicator(threads.split(0), device);
        auto group = comm->split(0);
        ASSERT_EQ(watched.size(), 2u);
        EXPECT_FALSE(watched[0].expired() || watched[1].expired());
        group.reset();
        EXPECT_TRUE(watched[1].expired());
        comm.reset();
        EXPECT_TRUE(watched[0].expired());
    });
}

TEST_F(NcclCommunicator, NamesTheCallThatFailed) {
    run_nccl_ranks(2, [](Communicator& comm) {
        std::vector<float> x(comm.rank() == 0 ? 3 : 4);
        EXPECT_THAT(failure([&] { comm.all_reduce_sum(Stream{}, view_of(x)); }),
                    AllOf(HasSubstr("ncclAllReduce("), HasSubstr("(nccl.cpp:"),
                          HasSubstr("some error: last words")));
    });
}

TEST_F(NcclCommunicator, IsAbortedWhereAnErrorEndsTheRank) {
    EXPECT_EQ(failure([] {
                  run_nccl_ranks(2, [](Communicator& comm) {
                      nccl_symmetric_memory(comm, std::array{Stream{}, Stream{1}}, 64);
                      if (comm.rank() == 1)
                          throw Error("of another kind");
                      comm.barrier();
                  });
              }),
              "of another kind");
    EXPECT_EQ(fake_nccl().aborted, 4);
}

// ---- symmetric memory

TEST_F(NcclCommunicator, GivesMemoryThatAllRanksReach) {
    run_nccl_ranks(2, [](Communicator& comm) {
        const Buffer memory =
            nccl_symmetric_memory(comm, std::array{Stream{}, Stream{1}}, 4 * sizeof(float));
        ASSERT_EQ(memory.bytes(), 4 * sizeof(float));
        EXPECT_EQ(memory.place(), Place::Device);
        const View x(memory.data(), DType::F32, Shape{4});
        std::fill_n(x.as<float>(), 4, float(comm.rank() + 1));
        comm.all_reduce_sum(Stream{}, x);
        EXPECT_THAT(x.span<float>(), ElementsAre(3, 3, 3, 3));
        EXPECT_EQ(fake_nccl().windows, 4);
        comm.barrier();
    });
}

TEST_F(NcclCommunicator, GivesNoSymmetricMemoryWhereThereIsNone) {
    const auto expect_none = [](Communicator& comm) {
        EXPECT_EQ(nccl_symmetric_memory(comm, std::array{Stream{}, Stream{1}}, 64).data(), nullptr);
        adds_whole_numbers(comm, 10);  // and goes on
    };
    run_nccl_ranks(1, expect_none);
    change_fake_nccl([](FakeNccl& fake) { fake.has_symmetric_memory = false; });
    run_nccl_ranks(2, expect_none);
    change_fake_nccl([](FakeNccl& fake) {
        fake.has_symmetric_memory = true;
        fake.version = 22605;
    });
    run_nccl_ranks(2, expect_none);
    expect_none(*make_self_communicator());
}

// ---- streams

TEST_F(NcclCommunicator, HasAnNcclCommunicatorForEachStream) {
    change_fake_nccl([](FakeNccl& fake) {
        fake.put = [](CUstream_st*, const std::function<void()>& work) { work(); };
    });
    run_ranks(2, [](Communicator& threads) {
        use_fake_gpu(threads.rank());
        std::array<char, 2> streams{};
        const auto comm = make_nccl_communicator(
            threads.split(0), {.cuda_stream = [&](Stream s) {
                return reinterpret_cast<CUstream_st*>(&streams[std::size_t(s.index)]);
            }});
        for (const int stream : {0, 1, 1, 0}) {
            std::vector<float> x{float(threads.rank() + 1)};
            comm->all_reduce_sum(Stream{stream}, view_of(x));
            EXPECT_THAT(x, ElementsAre(3));
        }
        EXPECT_EQ(fake_nccl().communicators, 4);
        EXPECT_EQ(comm->traffic().all_reduce_calls, 4);
        EXPECT_EQ(comm->traffic().other_calls, 0);  // what starts NCCL does not count
        threads.barrier();
    });
}

TEST_F(NcclCommunicator, GivesUpAllWhereThatOfAStreamDoesNotStart) {
    const std::string message = failure([] {
        run_ranks(2, [](Communicator& threads) {
            NcclDevice device = gpu(threads.rank());
            device.start_within = std::chrono::milliseconds(200);
            const auto comm = make_nccl_communicator(threads.split(0), device);
            adds_whole_numbers(*comm, 10);
            comm->barrier();
            change_fake_nccl([](FakeNccl& fake) { fake.starts = false; });
            std::vector<float> x(3);
            comm->all_reduce_sum(Stream{1}, view_of(x));
        });
    });
    EXPECT_THAT(message, AllOf(HasSubstr("ncclCommInitRankConfig (nccl.cpp:"),
                               HasSubstr("not done after 0.2 s")));
    EXPECT_EQ(fake_nccl().aborted, 4);
}

TEST_F(NcclCommunicator, KnowsItsVersion) { EXPECT_EQ(nccl_version(), "2.28.9"); }

}  // namespace
}  // namespace cake
