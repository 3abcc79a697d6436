#include "base/progress.h"

#include <array>

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include "base/log.h"

namespace cake {
namespace {

// A bar drawn into a file by a clock that the test moves.
class ProgressTest : public testing::Test {
protected:
    ~ProgressTest() override {
        progress_.finish();
        std::fclose(file_);
    }

    std::string drawn() {
        std::fflush(file_);
        std::rewind(file_);
        std::string text;
        std::array<char, 256> buffer;
        while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), file_))
            text.append(buffer.data(), n);
        return text;
    }

    std::FILE* file_ = std::tmpfile();
    double now_s_ = 100;
    Progress progress_{"prefill", 30, file_, [this] { return now_s_; }};
};

TEST(ProgressLine, ShowsShareCountAndTimeLeft) {
    EXPECT_EQ(progress_line("prefill", 15, 30, 20.0),
              "prefill [############............]  50% 15/30, 0:20 left");
    EXPECT_EQ(progress_line("prefill", 30, 30, 20.0),
              "prefill [########################] 100% 30/30, 0:00 left");
    EXPECT_EQ(progress_line("jobs", 1, 201, 90.0),
              "jobs [........................]   0% 1/201, 5:00:00 left");
}

TEST(ProgressLine, LeavesOutWhatIsNotKnown) {
    EXPECT_EQ(progress_line("prefill", 0, 30, 5.0), "prefill [........................]   0% 0/30");
    EXPECT_EQ(progress_line("tokens", 17, 0, 65.0), "tokens 17, 1:05");
}

TEST(ProgressLine, StaysWithinItsTotal) {
    EXPECT_EQ(progress_line("prefill", 31, 30, 6.0), progress_line("prefill", 30, 30, 6.0));
}

TEST_F(ProgressTest, ShowsNothingInTheFirstTwoSeconds) {
    now_s_ += 1.9;
    progress_.update(10);
    progress_.finish();
    EXPECT_EQ(drawn(), "");
}

TEST_F(ProgressTest, DrawsOverItselfAndClearsTheLineAtTheEnd) {
    now_s_ += 2;
    progress_.update(10);
    EXPECT_TRUE(Progress::is_shown());
    now_s_ += 2;
    progress_.update(20);
    progress_.finish();
    EXPECT_FALSE(Progress::is_shown());
    EXPECT_EQ(drawn(), "\r" + progress_line("prefill", 10, 30, 2) + "\033[K\r" +
                           progress_line("prefill", 20, 30, 4) + "\033[K\r\033[K");
}

TEST_F(ProgressTest, DrawsAtMostTenTimesASecond) {
    now_s_ += 3;
    progress_.update(10);
    now_s_ += 0.05;
    progress_.update(11);
    EXPECT_EQ(drawn(), "\r" + progress_line("prefill", 10, 30, 3) + "\033[K");
}

TEST_F(ProgressTest, DrawsNothingAfterTheEnd) {
    now_s_ += 3;
    progress_.finish();
    progress_.update(10);
    EXPECT_EQ(drawn(), "");
}

TEST_F(ProgressTest, GivesItsLineToAMessage) {
    now_s_ += 3;
    progress_.update(10);
    testing::internal::CaptureStderr();
    init_log(0, "info", false);
    spdlog::info("hello");
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "\r\033[Kcake: hello\n");
}

TEST(Progress, IsSilentWhereStderrIsNoTerminal) {
    testing::internal::CaptureStderr();  // into a file
    {
        Progress progress("prefill", 30, true);
        progress.update(30);
    }
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace cake
