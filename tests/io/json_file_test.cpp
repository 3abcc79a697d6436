#include "io/json_file.h"

#include <filesystem>
#include <string>

#include <gmock/gmock.h>

#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

std::string message(const std::string& text) {
    return usage_message([&] { parse_json(text, "config.json"); });
}

TEST(JsonFile, ReadsAFile) {
    const TempFolder folder;
    const auto json = read_json_file(folder.write("config.json", R"({"a": [1, "é\n", null]})"));
    EXPECT_EQ(json["a"][0], 1);
    EXPECT_EQ(json["a"][1], "é\n");
}

TEST(JsonFile, NamesTheMissingFile) {
    const TempFolder folder;
    EXPECT_THAT(usage_message([&] { read_json_file(folder.file("config.json")); }),
                HasSubstr(folder.file("config.json")));
}

TEST(JsonFile, NamesFileLineAndColumnOfAnError) {
    EXPECT_THAT(message("{\n  \"a\": 1,\n  b\n}"), StartsWith("config.json:3:3: not JSON"));
    EXPECT_THAT(message("{\"a\": 1"), StartsWith("config.json:1:8: not JSON"));
    EXPECT_THAT(message("[1] 2"), HasSubstr("not JSON"));
    EXPECT_THAT(message(""), HasSubstr("not JSON"));
}

TEST(JsonFile, RefusesBytesThatAreNotUtf8AndKeepsThemOutOfTheMessage) {
    const std::string text = message("{\"a\": \"\xff\x1b[31m\"}");
    EXPECT_THAT(text, HasSubstr("not JSON"));
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

TEST(JsonFile, RefusesNumbersOfNoMeaning) { EXPECT_THAT(message("[1e999]"), HasSubstr("1e999")); }

TEST(JsonFile, TakesSixtyFourLevelsAndNoMore) {
    const auto nested = [](std::size_t n) { return std::string(n, '[') + std::string(n, ']'); };
    EXPECT_NO_THROW(parse_json(nested(64), "x"));
    EXPECT_THAT(message(nested(65)), AllOf(HasSubstr("config.json:1:65"), HasSubstr("nested")));
    EXPECT_THAT(message(std::string(10'000'000, '[')), HasSubstr("nested"));
    EXPECT_THAT(message(std::string("\n") + std::string(100, '{')), HasSubstr(":2:65:"));
}

TEST(JsonFile, CountsNoBracketsInsideStrings) {
    EXPECT_EQ(parse_json("\"" + std::string(100, '[') + R"(\"[\\")", "x").get<std::string>().size(),
              103u);
}

TEST(JsonFile, RefusesMoreValuesThanMemoryShouldHold) {
    std::string text = "[";
    for (int i = 0; i < (16 << 20) + 1; ++i)
        text += "0,";
    EXPECT_THAT(message(text + "0]"), HasSubstr("holds more than"));
}

TEST(JsonFile, RefusesAFileOfMoreBytesThanAnyModelHas) {
    const TempFolder folder;
    const std::string path = folder.write("tokenizer.json", "{}");
    std::filesystem::resize_file(path, (256u << 20) + 1);  // sparse
    EXPECT_THAT(usage_message([&] { read_json_file(path); }),
                AllOf(HasSubstr(path), HasSubstr("at most 268435456")));
}

TEST(JsonFile, TellsAGitLfsPointer) {
    EXPECT_THAT(message("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
                HasSubstr("git lfs pull"));
}

}  // namespace
}  // namespace cake
