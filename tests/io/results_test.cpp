#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "io/jobs.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

std::string content(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
}

class ResultWriterTest : public testing::Test {
protected:
    void SetUp() override { spdlog::set_level(spdlog::level::off); }
    void TearDown() override { spdlog::set_level(spdlog::level::info); }

    TempFolder folder;
    std::string path = folder.file("results.jsonl");

    std::string refusal(const std::string& digest = "c1", bool anyway = false) {
        return usage_message([&] { ResultWriter(path, digest, anyway); });
    }
    void write_two() {
        ResultWriter out(path, "c1");
        out.write({{"id", "a"}, {"text", "é\n😀"}});
        out.write({{"id", "b"}, {"tokens", {1, 2}}});
    }
};

TEST_F(ResultWriterTest, WritesALinePerResultWithTheDigestInFront) {
    write_two();
    EXPECT_EQ(content(path),
              "{\"config\":\"c1\",\"id\":\"a\",\"text\":\"é\\n😀\"}\n"
              "{\"config\":\"c1\",\"id\":\"b\",\"tokens\":[1,2]}\n");
}

TEST_F(ResultWriterTest, KnowsWhatIsDoneAfterAStartAndAfterAWrite) {
    write_two();
    ResultWriter out(path, "c1");
    EXPECT_TRUE(out.done("a") && out.done("b"));
    EXPECT_FALSE(out.done("c"));
    out.write({{"id", "c"}, {"config", "another"}});
    EXPECT_TRUE(out.done("c"));
    EXPECT_EQ(out.n_done(), 3u);
    EXPECT_THAT(content(path), testing::EndsWith("\n{\"config\":\"c1\",\"id\":\"c\"}\n"));
}

TEST_F(ResultWriterTest, HasEachLineInTheFileWhenWriteReturns) {
    ResultWriter out(path, "c1");
    out.write({{"id", "a"}});
    EXPECT_EQ(content(path), "{\"config\":\"c1\",\"id\":\"a\"}\n");
}

TEST_F(ResultWriterTest, DropsALastLineCutAtAnyByteAndDoesItAgain) {
    write_two();
    const std::string whole = content(path);
    const std::size_t first = whole.find('\n') + 1;
    for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
        folder.write("results.jsonl", whole.substr(0, cut));
        {
            ResultWriter out(path, "c1");
            EXPECT_EQ(out.done("a"), cut >= first) << cut;
            EXPECT_EQ(out.done("b"), cut == whole.size()) << cut;
            EXPECT_EQ(content(path), whole.substr(0, cut == whole.size() ? cut
                                                     : cut >= first      ? first
                                                                         : 0));
            if (!out.done("a"))
                out.write({{"id", "a"}, {"text", "é\n😀"}});
            if (!out.done("b"))
                out.write({{"id", "b"}, {"tokens", {1, 2}}});
        }
        EXPECT_EQ(content(path), whole) << cut;
    }
}

TEST_F(ResultWriterTest, RefusesResultsOfAnotherConfigurationAndLeavesThemAlone) {
    write_two();
    const std::string before = content(path) + "{\"con";
    folder.write("results.jsonl", before);
    EXPECT_THAT(refusal("c2"), AllOf(StartsWith(path + ":1: "), HasSubstr("'c1', now c2"),
                                     HasSubstr("--append-anyway")));
    EXPECT_EQ(content(path), before);
    ResultWriter out(path, "c2", true);
    EXPECT_TRUE(out.done("a"));
    out.write({{"id", "c"}});
    EXPECT_THAT(content(path), testing::EndsWith("\n{\"config\":\"c2\",\"id\":\"c\"}\n"));
}

TEST_F(ResultWriterTest, RefusesFilesThatAreNoResultsAndLeavesThemAlone) {
    for (const char* text :
         {"notes", "notes\n", "{\"id\": \"a\", \"prompt\": \"x\"}\n", "{\n\"config\": 1\n}\n",
          "{\"id\": \"a\", \"prompt\": \"x\"}", "7\n", "{}\n{\"config\":"}) {
        folder.write("results.jsonl", text);
        for (bool anyway : {false, true})
            EXPECT_THAT(refusal("c1", anyway), HasSubstr("something else than results")) << text;
        EXPECT_EQ(content(path), text);
    }
}

TEST_F(ResultWriterTest, PassesOverDamagedLinesAmongResults) {
    write_two();
    const std::string before = "{\"config\":\"c1\",\"id\":\"x\n\n\xff\n" + content(path);
    folder.write("results.jsonl", before + std::string(5, '\0'));
    ResultWriter out(path, "c1");
    EXPECT_EQ(out.n_done(), 2u);
    EXPECT_EQ(content(path), before);
}

TEST_F(ResultWriterTest, LetsOneJobWriteAtATime) {
    ResultWriter first(path, "c1");
    first.write({{"id", "a"}});
    EXPECT_THAT(refusal(), AllOf(StartsWith(path), HasSubstr("another running job")));
    EXPECT_THAT(refusal("c1", true), HasSubstr("another running job"));
    first.write({{"id", "b"}});
    EXPECT_EQ(content(path),
              "{\"config\":\"c1\",\"id\":\"a\"}\n{\"config\":\"c1\",\"id\":\"b\"}\n");
}

TEST_F(ResultWriterTest, IsFreeAgainWhenItsJobIsKilled) {
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        ResultWriter out(path, "c1");
        out.write({{"id", "a"}});
        if (::write(ready[1], "x", 1) == 1)
            ::pause();
        ::_exit(1);
    }
    char byte;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    EXPECT_THAT(refusal(), HasSubstr("another running job"));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    EXPECT_TRUE(ResultWriter(path, "c1").done("a"));
    ::close(ready[0]);
    ::close(ready[1]);
}

TEST_F(ResultWriterTest, KeepsResultsWhoseTextIsNotUtf8) {
    ResultWriter(path, "c1").write({{"id", "a"}, {"text", "x\xff"}});
    EXPECT_EQ(json::parse(content(path))["text"], "x\uFFFD");
}

TEST_F(ResultWriterTest, ThrowsOnAFullDisk) {
    if (!std::filesystem::exists("/dev/full"))
        GTEST_SKIP() << "no /dev/full here";
    ResultWriter out("/dev/full", "c1");
    try {
        out.write({{"id", "a"}});
        ADD_FAILURE() << "nothing was thrown";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::Failed);
        EXPECT_THAT(error.what(), AllOf(HasSubstr("/dev/full"), HasSubstr("No space left")));
    }
    EXPECT_FALSE(out.done("a"));
}

TEST_F(ResultWriterTest, LeavesNoHalfLineWhereTheDiskFillsUpWithinIt) {
    ResultWriter out(path, "c1");
    out.write({{"id", "a"}});
    const std::string before = content(path);
    // A limit on the size of files cuts a write short, as a nearly full disk does.
    rlimit limit{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &limit), 0);
    const rlimit small{before.size() + 10, limit.rlim_max};
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    EXPECT_THROW(out.write({{"id", "b"}}), Error);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    std::signal(SIGXFSZ, handler);
    EXPECT_EQ(content(path), before);
    EXPECT_FALSE(out.done("b"));
    out.write({{"id", "c"}});
    EXPECT_EQ(content(path), before + "{\"config\":\"c1\",\"id\":\"c\"}\n");
}

TEST_F(ResultWriterTest, NamesFilesThatCannotBeWritten) {
    EXPECT_THAT(usage_message([&] { ResultWriter(folder.path(), "c1"); }),
                AllOf(HasSubstr(folder.path()), HasSubstr("Is a directory")));
    EXPECT_THAT(usage_message([&] { ResultWriter(folder.file("no/such.jsonl"), "c1"); }),
                HasSubstr("No such file"));
}

TEST_F(ResultWriterTest, WritesToStandardOutput) {
    testing::internal::CaptureStdout();
    {
        ResultWriter out("-", "c1");
        EXPECT_FALSE(out.done("a"));
        out.write({{"id", "a"}});
        out.write(json::object());
        EXPECT_TRUE(out.done("a"));
    }
    EXPECT_EQ(testing::internal::GetCapturedStdout(),
              "{\"config\":\"c1\",\"id\":\"a\"}\n{\"config\":\"c1\"}\n");
}

}  // namespace
}  // namespace cake
