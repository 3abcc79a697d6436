#include "base/log.h"

#include <cstdlib>
#include <fstream>
#include <regex>

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

// What each level says after init_log(rank, level, quiet, folder).
std::string said(int rank, const std::string& level, bool quiet, const std::string& folder = "") {
    testing::internal::CaptureStderr();
    init_log(rank, level, quiet, folder);
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

// A rank's file has what the rank keeps from the terminal, after what an earlier start has left there.
TEST(Log, WritesEachRanksDetailsToAFileOfItsOwn) {
    const TempFolder folder;
    const std::string logs = folder.file("a/b");
    const std::string line = "[0-9-]{10}T[0-9:.]{12}[+-][0-9:]{5,6} rank 3 " + host_name() + " ";
    const std::string start = line + "debug: a detail\n" + line + "info: reads 30 layers\n" + line +
                              "warning: a doubt\n" + line + "error: an end\n";
    for (const std::string& all : {start, start + start}) {
        EXPECT_EQ(said(3, "error", true, logs),
                  "[rank 3 " + host_name() + "] cake: error: an end\n");
        std::ifstream in(logs + "/rank-3.log");
        const std::string text{std::istreambuf_iterator<char>(in), {}};
        EXPECT_TRUE(std::regex_match(text, std::regex(all))) << text;
    }
}

TEST(Log, RefusesAFolderThatCannotBeWritten) {
    const TempFolder folder;
    const std::string file = folder.write("file", "");
    EXPECT_THAT(usage_message([&] { init_log(0, "info", false, file); }),
                testing::HasSubstr("the log's folder " + file + " cannot be written: "));
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
