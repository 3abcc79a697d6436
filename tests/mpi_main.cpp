// main() of the tests that run under mpirun.
#include "mpi_main.h"

#include <cstdio>
#include <memory>

#include <gtest/gtest.h>

#include "base/log.h"

namespace cake {
namespace {

World* the_world = nullptr;

// What ranks other than 0 say: their failures, with their number.
class FailurePrinter final : public testing::EmptyTestEventListener {
    void OnTestPartResult(const testing::TestPartResult& result) override {
        if (result.failed())
            std::fprintf(stderr, "[rank %d] %s:%d: %s\n", test_world().rank(),
                         result.file_name() ? result.file_name() : "?", result.line_number(),
                         result.message());
    }
};

// A test that failed on one rank is seen to fail on rank 0, whose output people read.
class FailTogether final : public testing::EmptyTestEventListener {
    void OnTestEnd(const testing::TestInfo& info) override {
        std::vector<double> failures{info.result()->Failed() ? 1.0 : 0.0};
        test_world().comm().sum(failures);
        if (failures[0] > 0 && !info.result()->Failed())
            ADD_FAILURE() << "failed on " << failures[0] << " other ranks";
    }
};

}  // namespace

World& test_world() { return *the_world; }

}  // namespace cake

int main(int argc, char** argv) {
    cake::World world(argc, argv);
    cake::the_world = &world;
    cake::init_log(world.rank(), "info", false);
    testing::InitGoogleTest(&argc, argv);
    // A rank that leaves a test by an exception would meet the others in another test's collective: better all end.
    testing::FLAGS_gtest_catch_exceptions = false;

    testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
    if (world.rank() != 0) {
        delete listeners.Release(listeners.default_result_printer());
        listeners.Append(new cake::FailurePrinter);
    }
    listeners.Append(new cake::FailTogether);
    const bool failed = RUN_ALL_TESTS() != 0;
    cake::the_world = nullptr;
    return failed ? 1 : 0;
}
