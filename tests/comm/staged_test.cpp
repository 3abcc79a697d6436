// The cases over memory that the host cannot read; over MPI they are in communicator_mpi_test.cpp.
#include "comm/staged.h"

#include <tuple>

#include <gtest/gtest.h>

#include "comm/communicator_cases.h"
#include "support/fake_device.h"
#include "support/thread_comm.h"

namespace cake {
namespace {

class StagedCommunicator : public testing::TestWithParam<std::tuple<NamedCase, int>> {};

TEST_P(StagedCommunicator, Keeps) {
    const auto& [test, ranks] = GetParam();
    run_ranks(ranks, [&](Communicator& threads) {
        FakeDevice device;
        const auto comm = on_device(
            make_staged_communicator(threads.split(0), device.copies()),
            [&](std::size_t bytes) { return device.allocate(bytes); }, device.copies());
        test.run(*comm);
    });
}

INSTANTIATE_TEST_SUITE_P(Contract, StagedCommunicator,
                         testing::Combine(testing::ValuesIn(kCommunicatorCases),
                                          testing::Values(1, 2, 3)),
                         [](const auto& info) {
                             return fmt::format("{}On{}", std::get<0>(info.param).name,
                                                std::get<1>(info.param));
                         });

// Two streams use the same pinned memory one after another.
TEST(StagedCommunicator, ServesSeveralStreams) {
    run_ranks(2, [](Communicator& threads) {
        FakeDevice device;
        const auto comm = make_staged_communicator(threads.split(0), device.copies());
        std::vector<float> values[2] = {{1, 2, 3}, {10, 20, 30}};
        Buffer memory[2];
        for (int s : {0, 1}) {
            memory[s] = device.allocate(3 * sizeof(float));
            const View there(memory[s].data(), DType::F32, Shape{3});
            device.copy(Stream{s}, there, view_of(values[s]));
            comm->all_reduce_sum(Stream{s}, there);
        }
        for (int s : {0, 1}) {
            device.copy(Stream{s}, view_of(values[s]),
                        View(memory[s].data(), DType::F32, Shape{3}));
            device.synchronize(Stream{s});
        }
        EXPECT_EQ(values[0], (std::vector<float>{2, 4, 6}));
        EXPECT_EQ(values[1], (std::vector<float>{20, 40, 60}));
    });
}

// A rank alone that gathers has its values copied on the device.
TEST(StagedCommunicator, DoesNotTakeARanksOwnValuesThroughTheHost) {
    FakeDevice device;
    DeviceCopies copies = device.copies();
    copies.pinned = [](std::size_t) -> Buffer { throw Error("pinned memory for one rank"); };
    const auto comm = on_device(
        make_staged_communicator(make_self_communicator(), copies),
        [&](std::size_t bytes) { return device.allocate(bytes); }, device.copies());
    adds_whole_numbers(*comm, 100);
    gathers_uneven_parts(*comm);
    broadcasts_from_any_root(*comm);
}

}  // namespace
}  // namespace cake
