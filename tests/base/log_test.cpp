#include "base/log.h"

#include <cstdlib>

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include "base/error.h"

namespace cake {
namespace {

// What each level says after init_log(rank, level, quiet).
std::string said(int rank, const std::string& level, bool quiet) {
    testing::internal::CaptureStderr();
    init_log(rank, level, quiet);
    spdlog::debug("a detail");
    spdlog::info("reads {} layers", 30);
    spdlog::warn("a doubt");
    spdlog::error("an end");
    spdlog::default_logger()->flush();
    const std::string text = testing::internal::GetCapturedStderr();
    init_log(0, "info", false);
    return text;
}

TEST(Log, SpeaksPlainlyOnRankZero) {
    EXPECT_EQ(said(0, "info", false),
              "cake: reads 30 layers\ncake: warning: a doubt\ncake: error: an end\n");
}

TEST(Log, SpeaksOfDetailsOnRequest) {
    EXPECT_EQ(said(0, "debug", false),
              "cake: debug: a detail\ncake: reads 30 layers\ncake: warning: a doubt\ncake: error: "
              "an end\n");
}

TEST(Log, KeepsInformationToItselfWhenQuiet) {
    EXPECT_EQ(said(0, "info", true), "cake: warning: a doubt\ncake: error: an end\n");
    EXPECT_EQ(said(0, "off", true), "");
}

TEST(Log, LetsOtherRanksSpeakOfErrorsOnly) {
    EXPECT_EQ(said(3, "debug", false), "[rank 3 " + host_name() + "] cake: error: an end\n");
}

TEST(Log, RefusesAnUnknownLevel) {
    try {
        init_log(0, "loud", false);
        FAIL();
    } catch (const Error& error) {
        EXPECT_STREQ(error.what(),
                     "unknown log level 'loud': one of trace, debug, info, warning, error, off");
        EXPECT_EQ(error.code(), ExitCode::Usage);
    }
}

TEST(Log, TakesSlurmsNameOfTheHost) {
    setenv("SLURMD_NODENAME", "node7", 1);
    EXPECT_EQ(host_name(), "node7");
    unsetenv("SLURMD_NODENAME");
    EXPECT_NE(host_name(), "");
}

}  // namespace
}  // namespace cake
