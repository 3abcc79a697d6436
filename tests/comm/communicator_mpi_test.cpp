// The cases over MPI, and World's agreement about start-up. Runs under mpirun with 2 and with 3 ranks.
#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "comm/communicator_cases.h"
#include "comm/mailbox.h"
#include "comm/mpi.h"
#include "comm/mpi_check.h"
#include "comm/staged.h"
#include "mpi_main.h"
#include "support/fake_device.h"

namespace cake {
namespace {

class MpiCommunicatorTest : public testing::TestWithParam<NamedCase> {};

TEST_P(MpiCommunicatorTest, Keeps) { GetParam().run(test_world().comm()); }

INSTANTIATE_TEST_SUITE_P(Contract, MpiCommunicatorTest, testing::ValuesIn(kCommunicatorCases),
                         [](const auto& info) { return info.param.name; });

// As if MPI could count to 1000 only: messages are cut as those beyond 2^31 are.
class CutMessages : public testing::TestWithParam<NamedCase> {};

TEST_P(CutMessages, Keep) {
    MPI_Comm copy = MPI_COMM_NULL;
    ASSERT_EQ(MPI_Comm_dup(MPI_COMM_WORLD, &copy), MPI_SUCCESS);
    MpiCommunicator comm(copy, 1000);
    GetParam().run(comm);
}

INSTANTIATE_TEST_SUITE_P(Contract, CutMessages, testing::ValuesIn(kCommunicatorCases),
                         [](const auto& info) { return info.param.name; });

// Data on a device that MPI cannot read.
class StagedMpiCommunicator : public testing::TestWithParam<NamedCase> {};

TEST_P(StagedMpiCommunicator, Keeps) {
    FakeDevice device;
    const auto comm = on_device(
        make_staged_communicator(test_world().comm().split(0), device.copies()),
        [&](std::size_t bytes) { return device.allocate(bytes); }, device.copies());
    GetParam().run(*comm);
}

INSTANTIATE_TEST_SUITE_P(Contract, StagedMpiCommunicator, testing::ValuesIn(kCommunicatorCases),
                         [](const auto& info) { return info.param.name; });

TEST(MpiCheck, ReportsCallPlaceRankAndHost) {
    EXPECT_NO_THROW(detail::mpi_check(MPI_SUCCESS, "MPI_Bcast(x)", "comm/mpi.cpp", 12));
    try {
        detail::mpi_check(MPI_ERR_ROOT, "MPI_Bcast(x)", "comm/mpi.cpp", 12);
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(
            std::string(error.what()),
            fmt::format("rank {} on {}: MPI_Bcast(x): MPI_ERR_ROOT: invalid root (mpi.cpp:12)",
                        test_world().rank(), host_name()));
    }
}

TEST(World, KnowsTheRanksOfThisHost) {
    World& world = test_world();
    EXPECT_EQ(world.size(), std::atoi(std::getenv("OMPI_COMM_WORLD_SIZE")));
    EXPECT_EQ(world.host(), host_name());
    EXPECT_EQ(world.local_rank(), std::atoi(std::getenv("OMPI_COMM_WORLD_LOCAL_RANK")));
    EXPECT_EQ(world.local_size(), std::atoi(std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE")));

    const auto ranks = world.local_comm().gather_strings(std::to_string(world.rank()));
    EXPECT_EQ(int(ranks.size()), world.local_size());
    EXPECT_EQ(ranks[std::size_t(world.local_rank())], std::to_string(world.rank()));
}

// What agree() threw here: its text and its code.
std::pair<std::string, ExitCode> outcome(const std::function<void()>& step) {
    try {
        test_world().agree(step);
    } catch (const Error& error) {
        EXPECT_TRUE(test_world().failed_together());
        return {error.what(), error.code()};
    }
    EXPECT_FALSE(test_world().failed_together());
    return {"", ExitCode::Done};
}

TEST(World, AgreesThatAllIsWell) {
    int steps = 0;
    EXPECT_EQ(outcome([&] { ++steps; }).first, "");
    EXPECT_EQ(steps, 1);
}

TEST(World, TellsAllRanksOfTheOneThatFailed) {
    const int last = test_world().size() - 1;
    const auto [message, code] = outcome([&] {
        if (test_world().rank() == last)
            throw usage_error("no such file: model.gguf");
    });
    EXPECT_EQ(message, fmt::format("rank {} on {}: no such file: model.gguf", last, host_name()));
    EXPECT_EQ(code, ExitCode::Usage);
}

TEST(World, SaysWithoutARankWhatAllRanksSay) {
    const auto [message, code] = outcome([] { throw usage_error("no such file: model.gguf"); });
    EXPECT_EQ(message, "no such file: model.gguf");
    EXPECT_EQ(code, ExitCode::Usage);
}

TEST(World, TakesTheLowestRanksWordWhereFailuresDiffer) {
    const auto [message, code] = outcome([] {
        if (test_world().rank() == 0)
            throw std::runtime_error("rank 0's");
        throw usage_error("the others'");
    });
    EXPECT_EQ(message, fmt::format("rank 0 on {}: rank 0's", host_name()));
    EXPECT_EQ(code, ExitCode::Failed);
}

TEST(World, SpeaksOnAfterAFailureThatItAgreedOn) {
    EXPECT_NE(outcome([] { throw 42; }).first, "");
    EXPECT_EQ(outcome([] {}).first, "");
    adds_messages_of_any_length(test_world().comm());
}

// Rank 0 answers each rank's messages, short and long, while it does something else too.
TEST(Mailbox, CarriesMessagesBetweenTwoRanks) {
    Mailbox mailbox;
    World& world = test_world();
    constexpr std::size_t kLong = 3 << 20;
    if (world.rank() == 0) {
        for (int left = 2 * (world.size() - 1); left > 0; --left) {
            const Mailbox::Message message = mailbox.wait();
            mailbox.send(message.from, message.bytes + std::to_string(message.from));
        }
        EXPECT_FALSE(mailbox.poll());
    } else {
        for (const std::string& text : {std::string("a"), std::string(kLong, 'b')}) {
            mailbox.send(0, text);
            const Mailbox::Message answer = mailbox.wait();
            EXPECT_EQ(answer.from, 0);
            EXPECT_EQ(answer.bytes, text + std::to_string(world.rank()));
        }
    }
    world.comm().barrier();
}

}  // namespace
}  // namespace cake
