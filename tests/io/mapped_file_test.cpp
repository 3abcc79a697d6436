#include "io/mapped_file.h"

#include <algorithm>
#include <string>
#include <sys/stat.h>
#include <vector>

#include <gmock/gmock.h>

#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(MappedFile, ShowsTheBytesOfTheFile) {
    const TempFolder folder;
    const MappedFile file(folder.write("a", "abc"));
    ASSERT_EQ(file.bytes().size(), 3u);
    EXPECT_EQ(file.bytes()[2], std::byte('c'));
    EXPECT_EQ(file.path(), folder.file("a"));
}

TEST(MappedFile, RefusesWhatCannotBeRead) {
    const TempFolder folder;
    EXPECT_THAT(usage_message([&] { MappedFile(folder.file("none")); }),
                AllOf(HasSubstr(folder.file("none")), HasSubstr("No such file")));
    EXPECT_THAT(usage_message([&] { MappedFile(folder.path()); }), HasSubstr("is a folder"));
    EXPECT_THAT(usage_message([&] { MappedFile(folder.write("e", "")); }), HasSubstr("is empty"));
}

TEST(MappedFile, RefusesANamedPipeInsteadOfWaitingForIt) {
    const TempFolder folder;
    ASSERT_EQ(::mkfifo(folder.file("pipe").c_str(), 0600), 0);
    EXPECT_THAT(usage_message([&] { MappedFile(folder.file("pipe")); }),
                HasSubstr("not a regular file"));
}

TEST(MappedFile, KeepsItsBytesAfterReleaseAndMove) {
    const TempFolder folder;
    std::string text(300'000, ' ');
    for (std::size_t i = 0; i < text.size(); ++i)
        text[i] = char(i * 7 + i / 4096);
    MappedFile first(folder.write("a", text));
    first.release(first.bytes().subspan(5000, 200'000));
    first.release({});
    const MappedFile file(std::move(first));
    EXPECT_TRUE(
        std::equal(text.begin(), text.end(), reinterpret_cast<const char*>(file.bytes().data())));
    file.release(file.bytes());
    EXPECT_EQ(file.bytes()[299'999], std::byte(text[299'999]));
}

TEST(MappedFile, ReleasesNothingButItsOwn) {
    const TempFolder folder;
    const MappedFile file(folder.write("a", "abc"));
    const std::byte other{};
    EXPECT_THROW(file.release({&other, 1}), Error);
}

}  // namespace
}  // namespace cake
