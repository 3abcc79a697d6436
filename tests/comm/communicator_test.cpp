// The cases over one rank alone and over ranks as threads; the MPI ones are in communicator_mpi_test.cpp.
#include "comm/communicator.h"

#include <tuple>

#include <gtest/gtest.h>

#include "comm/communicator_cases.h"
#include "comm/nccl.h"
#include "support/thread_comm.h"

namespace cake {
namespace {

class SelfCommunicator : public testing::TestWithParam<NamedCase> {};

TEST_P(SelfCommunicator, Keeps) {
    const auto comm = make_self_communicator();
    GetParam().run(*comm);
}

INSTANTIATE_TEST_SUITE_P(Contract, SelfCommunicator, testing::ValuesIn(kCommunicatorCases),
                         [](const auto& info) { return info.param.name; });

class ThreadCommunicator : public testing::TestWithParam<std::tuple<NamedCase, int>> {};

TEST_P(ThreadCommunicator, Keeps) {
    const auto& [test, ranks] = GetParam();
    run_ranks(ranks, test.run);
}

INSTANTIATE_TEST_SUITE_P(Contract, ThreadCommunicator,
                         testing::Combine(testing::ValuesIn(kCommunicatorCases),
                                          testing::Values(1, 2, 3, 5)),
                         [](const auto& info) {
                             return fmt::format("{}On{}", std::get<0>(info.param).name,
                                                std::get<1>(info.param));
                         });

TEST(NcclCommunicator, SaysThatItIsNotPartOfThisBuild) {
    EXPECT_EQ(nccl_version(), "");
    EXPECT_THROW(make_nccl_communicator(make_self_communicator(), {}), NotCompiled);
    const auto other = make_self_communicator();
    EXPECT_EQ(nccl_symmetric_memory(*other, {}, 64).data(), nullptr);
}

}  // namespace
}  // namespace cake
