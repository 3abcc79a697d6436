#include "io/jobs.h"

#include <sstream>

#include <gmock/gmock.h>

#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

std::vector<Job> jobs_in(const std::string& text) {
    std::istringstream in(text);
    JobReader reader(in, "jobs.jsonl");
    std::vector<Job> out;
    while (auto job = reader.next())
        out.push_back(std::move(*job));
    return out;
}

Job only_job(const std::string& line) {
    const auto jobs = jobs_in(line);
    EXPECT_THAT(jobs, SizeIs(1));
    return jobs.empty() ? Job{} : jobs[0];
}

// What is said of a line that is no job.
std::string complaint(const std::string& line) { return only_job(line).error; }

// Of an object with an id, a prompt and `more`.
std::string complaint_of(const std::string& more) {
    const Job job = only_job(R"({"id": "a", "prompt": "x", )" + more + "}");
    EXPECT_EQ(job.id, "a");
    return job.error;
}

TEST(JobReader, ReadsWhatTheInterfaceNames) {
    const auto jobs = jobs_in(
        R"({"id": "a1", "prompt": "Hi"})"
        "\n"
        R"({"id": "a2", "tokens": [1, 2, 2147483647], "max_new_tokens": 5, "stop": ["\n", "é"],)"
        R"( "seed": 9223372036854775807, "temperature": 0.5})"
        "\n");
    ASSERT_THAT(jobs, SizeIs(2));
    EXPECT_EQ(jobs[0].id, "a1");
    EXPECT_EQ(jobs[0].prompt, "Hi");
    EXPECT_EQ(jobs[0].line, 1);
    EXPECT_THAT(jobs[0].error, IsEmpty());
    EXPECT_FALSE(jobs[0].tokens || jobs[0].max_new_tokens || jobs[0].stop || jobs[0].seed ||
                 jobs[0].temperature);
    EXPECT_THAT(jobs[1].error, IsEmpty());
    EXPECT_THAT(*jobs[1].tokens, ElementsAre(1, 2, 2147483647));
    EXPECT_EQ(jobs[1].max_new_tokens, 5);
    EXPECT_THAT(*jobs[1].stop, ElementsAre("\n", "é"));
    EXPECT_EQ(jobs[1].seed, std::int64_t(9223372036854775807));
    EXPECT_EQ(jobs[1].temperature, 0.5);
    EXPECT_EQ(jobs[1].line, 2);
}

TEST(JobReader, TakesOneStopAsTextAndNullAsAbsent) {
    const Job job = only_job(
        R"({"id": "a", "prompt": "", "tokens": null, "stop": ".", "seed": null, "temperature": 1})");
    EXPECT_THAT(job.error, IsEmpty());
    EXPECT_THAT(*job.stop, ElementsAre("."));
    EXPECT_FALSE(job.seed || job.tokens);
    EXPECT_EQ(job.temperature, 1);
}

TEST(JobReader, PassesOverEmptyLinesAndCountsThem) {
    const auto jobs = jobs_in("\n \t\n\r\n{\"id\": \"a\", \"prompt\": \"x\"}\n\n{\"id\": 1}\n\n");
    ASSERT_THAT(jobs, SizeIs(2));
    EXPECT_EQ(jobs[0].line, 4);
    EXPECT_EQ(jobs[1].line, 6);
    EXPECT_EQ(jobs[1].id, "line 6");
    EXPECT_THAT(jobs_in(""), IsEmpty());
    EXPECT_THAT(jobs_in("\n\n"), IsEmpty());
}

TEST(JobReader, TakesLineEndsOfWindowsAndALastLineWithoutAny) {
    const auto jobs = jobs_in(
        "{\"id\": \"a\", \"prompt\": \"x\"}\r\n{\"id\": \"b\", \"prompt\": \"y\"}\r\n"
        "{\"id\": \"c\", \"prompt\": \"z\"}");
    ASSERT_THAT(jobs, SizeIs(3));
    for (const Job& job : jobs)
        EXPECT_THAT(job.error, IsEmpty());
    EXPECT_EQ(jobs[2].prompt, "z");
}

TEST(JobReader, KeepsUnicodeAsItIs) {
    const Job job = only_job(
        R"({"id": "日本 😀", "prompt": "caf\u00e9 \ud83d\ude00 \u0000 \u2028", "stop": "終"})");
    EXPECT_THAT(job.error, IsEmpty());
    EXPECT_EQ(job.id, "日本 😀");
    EXPECT_EQ(job.prompt, std::string("café 😀 \0 \u2028", 16));
    EXPECT_THAT(*job.stop, ElementsAre("終"));
}

TEST(JobReader, NamesFileLineAndColumnOfWhatIsNotJson) {
    EXPECT_THAT(complaint("{\"id\": \"a\", prompt}"), StartsWith("jobs.jsonl:1:13: not JSON: "));
    const auto jobs = jobs_in("{\"id\": \"a\", \"prompt\": \"x\"}\n{\"id\": \"b\"\n");
    EXPECT_THAT(jobs.at(1).error, StartsWith("jobs.jsonl:2:11: not JSON: "));
    EXPECT_EQ(jobs[1].id, "line 2");
    EXPECT_THAT(complaint("{\"id\": \"a\", \"prompt\": \"\xff\"}"),
                AllOf(StartsWith("jobs.jsonl:1:24: not JSON"), HasSubstr("UTF-8")));
    EXPECT_THAT(complaint(R"({"id": "a", "prompt": "\ud800"})"), HasSubstr("not JSON"));
    EXPECT_THAT(complaint(std::string("{\"id\": \"a\0\"}", 12)), HasSubstr("not JSON"));
    EXPECT_THAT(complaint("{\"id\": \"a\", \"seed\": 1e999}"), StartsWith("jobs.jsonl:1: "));
}

TEST(JobReader, WantsAnObject) {
    EXPECT_EQ(
        complaint("[1]"),
        R"(jobs.jsonl:1: the line is a list; allowed is an object, {"id": ..., "prompt": ...})");
    EXPECT_THAT(complaint("\"text\""), HasSubstr("the line is 'text'"));
    EXPECT_THAT(complaint("7"), HasSubstr("the line is '7'"));
    EXPECT_THAT(complaint("null"), HasSubstr("the line is 'null'"));
}

TEST(JobReader, WantsAPromptOrTokensAndNotBoth) {
    EXPECT_EQ(complaint(R"({"id": "a"})"),
              "jobs.jsonl:1: prompt is missing (or tokens, a list of token ids)");
    EXPECT_EQ(complaint_of(R"("tokens": [1])"),
              "jobs.jsonl:1: prompt and tokens are both given; leave one out");
    EXPECT_THAT(complaint(R"({"id": "a", "prompt": 5})"), HasSubstr("prompt is '5'; allowed"));
    for (const char* tokens : {"[]", "5", "\"1\"", "[-1]", "[1.0]", "[2147483648]", "[\"1\"]",
                               "[[1]]", "[18446744073709551615]", "{}"})
        EXPECT_THAT(complaint(R"({"id": "a", "tokens": )" + std::string(tokens) + "}"),
                    StartsWith("jobs.jsonl:1: tokens "))
            << tokens;
    EXPECT_THAT(complaint(R"({"id": "a", "tokens": [1, 2, "x"]})"),
                HasSubstr("tokens holds 'x' at place 2"));
}

TEST(JobReader, WantsAnIdThatIsText) {
    EXPECT_EQ(complaint(R"({"prompt": "x"})"), "jobs.jsonl:1: id is missing");
    for (const char* id : {"5", "\"\"", "[]", "{}", "true"}) {
        const Job job = only_job(R"({"prompt": "x", "id": )" + std::string(id) + "}");
        EXPECT_THAT(job.error, StartsWith("jobs.jsonl:1: id is ")) << id;
        EXPECT_EQ(job.id, "line 1");
    }
}

TEST(JobReader, NamesTheNearestOfAnUnknownKey) {
    EXPECT_EQ(complaint_of(R"("temprature": 1)"),
              "jobs.jsonl:1: unknown key 'temprature'; the nearest one is temperature");
    EXPECT_THAT(complaint_of(R"("max_tokens": 1)"), HasSubstr("nearest one is max_new_tokens"));
    EXPECT_THAT(complaint_of(R"("": 1)"), HasSubstr("unknown key ''"));
    EXPECT_THAT(complaint(R"({"id": "a", "promt": "x"})"), HasSubstr("nearest one is prompt"));
    EXPECT_THAT(complaint_of("\"" + std::string(1'000'000, 'k') + "\": 1"),
                AllOf(HasSubstr("unknown key"), SizeIs(testing::Lt(300u))));
}

TEST(JobReader, NamesWhatIsFoundAndAllowedOfAWrongValue) {
    EXPECT_EQ(complaint_of(R"("temperature": "hot")"),
              "jobs.jsonl:1: temperature is 'hot'; allowed is a number from 0 to 100");
    EXPECT_THAT(complaint_of(R"("temperature": -0.5)"), HasSubstr("temperature is '-0.5'"));
    EXPECT_THAT(complaint_of(R"("temperature": true)"), HasSubstr("temperature is 'true'"));
    EXPECT_EQ(complaint_of(R"("max_new_tokens": 0)"),
              "jobs.jsonl:1: max_new_tokens is '0'; allowed is a whole number from 1 to 134217728");
    EXPECT_THAT(complaint_of(R"("max_new_tokens": 1.5)"), HasSubstr("max_new_tokens is '1.5'"));
    EXPECT_THAT(complaint_of(R"("seed": -1)"), HasSubstr("seed is '-1'"));
    EXPECT_THAT(complaint_of(R"("seed": 9223372036854775808)"), HasSubstr("seed is "));
    EXPECT_THAT(complaint_of(R"("seed": {})"), HasSubstr("seed is an object"));
    for (const char* stop : {"\"\"", "[\"\"]", "[1]", "5", "{}", "[null]"})
        EXPECT_THAT(complaint_of(R"("stop": )" + std::string(stop)),
                    AllOf(StartsWith("jobs.jsonl:1: stop is "), HasSubstr("allowed is a text")))
            << stop;
}

TEST(JobReader, GivesADuplicateTheNameOfItsLine) {
    const std::string line = R"({"id": "a", "prompt": "x"})";
    const auto jobs = jobs_in(line + "\n" + line + "\n" + line + "\n");
    ASSERT_THAT(jobs, SizeIs(3));
    EXPECT_THAT(jobs[0].error, IsEmpty());
    EXPECT_EQ(jobs[1].error, "jobs.jsonl:2: id 'a' was given to a line before");
    EXPECT_EQ(jobs[1].id, "line 2");
    EXPECT_EQ(jobs[2].id, "line 3");
    EXPECT_THAT(jobs[1].prompt, IsEmpty());
}

TEST(JobReader, KeepsTheNamesOfLinesForLines) {
    const auto jobs = jobs_in(
        "{\"id\": \"line 1\", \"prompt\": \"x\"}\n{\"id\": \"line 3\", \"prompt\": \"x\"}\nbad\n"
        "{\"id\": \"line x\", \"prompt\": \"x\"}\n");
    ASSERT_THAT(jobs, SizeIs(4));
    EXPECT_THAT(jobs[0].error, IsEmpty());
    EXPECT_THAT(jobs[1].error, HasSubstr("id is 'line 3', which is kept"));
    EXPECT_EQ(jobs[1].id, "line 2");
    EXPECT_EQ(jobs[2].id, "line 3");
    EXPECT_THAT(jobs[3].error, IsEmpty());
}

TEST(JobReader, GoesOnAfterABadLine) {
    const auto jobs = jobs_in("]\n{\"id\": \"a\", \"prompt\": \"x\"}\n");
    ASSERT_THAT(jobs, SizeIs(2));
    EXPECT_THAT(jobs[1].error, IsEmpty());
}

TEST(JobReader, ReadsALineOfAMegabyte) {
    for (std::size_t size : {65'500u, 65'505u, 65'510u, 131'040u, 1'000'000u})
        for (std::size_t more = 0; more < 5; ++more) {
            const std::string prompt(size + more, 'p');
            const auto jobs = jobs_in("{\"id\": \"a\", \"prompt\": \"" + prompt +
                                      "\"}\n{\"id\": \"b\", \"prompt\": \"y\"}\n");
            ASSERT_THAT(jobs, SizeIs(2));
            EXPECT_TRUE(jobs[0].prompt == prompt) << size + more;
            EXPECT_EQ(jobs[1].prompt, "y");
        }
}

TEST(JobReader, PassesOverALineOfMoreThanSixteenMebibytesAndSaysSo) {
    const std::string huge = "{\"id\": \"a\", \"prompt\": \"" + std::string(17 << 20, 'p') + "\"}";
    const auto jobs = jobs_in(huge + "\n{\"id\": \"b\", \"prompt\": \"y\"}\n" + huge);
    ASSERT_THAT(jobs, SizeIs(3));
    EXPECT_THAT(jobs[0].error,
                AllOf(StartsWith("jobs.jsonl:1: the line has 178"), HasSubstr("16 MiB")));
    EXPECT_EQ(jobs[1].prompt, "y");
    EXPECT_EQ(jobs[2].id, "line 3");
    EXPECT_THAT(jobs[2].error, HasSubstr("16 MiB"));

    const std::string around = R"({"id": "a", "prompt": ""})";
    const std::size_t room = JobReader::most_line_bytes - around.size();
    const auto full = [&](std::size_t n) {
        return R"({"id": "a", "prompt": ")" + std::string(n, 'p') + "\"}\n";
    };
    EXPECT_THAT(complaint(full(room)), IsEmpty());
    EXPECT_THAT(complaint(full(room + 1)), HasSubstr("has 16777218 bytes"));
}

TEST(JobReader, RefusesDeepNesting) {
    EXPECT_THAT(complaint("{\"id\": \"a\", \"stop\": " + std::string(100'000, '[')),
                AllOf(StartsWith("jobs.jsonl:1:"), HasSubstr("nested deeper than 64")));
}

TEST(JobReader, GivesJobsBeforeItHasReadTheNextOnes) {
    std::stringstream in;
    in << "{\"id\": \"a\", \"prompt\": \"x\"}\n{\"id\": \"b\", \"pro";
    JobReader reader(in, "jobs.jsonl");
    EXPECT_EQ(reader.next()->id, "a");
    in << "mpt\": \"y\"}\n";
    EXPECT_EQ(reader.next()->prompt, "y");
    EXPECT_EQ(reader.next(), std::nullopt);
}

TEST(JobReader, NamesFilesThatCannotBeRead) {
    const TempFolder folder;
    EXPECT_THAT(usage_message([&] { JobReader(folder.file("none.jsonl")); }),
                AllOf(HasSubstr("none.jsonl"), HasSubstr("No such file")));
    EXPECT_THAT(usage_message([&] { JobReader(folder.path()); }), HasSubstr("this is a folder"));
    const std::string path = folder.write("jobs.jsonl", "{\"id\": \"a\", \"prompt\": \"x\"}\n7\n");
    JobReader reader(path);
    EXPECT_EQ(reader.next()->id, "a");
    EXPECT_THAT(reader.next()->error, StartsWith(path + ":2: "));
    EXPECT_EQ(reader.next(), std::nullopt);
}

}  // namespace
}  // namespace cake
