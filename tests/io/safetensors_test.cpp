#include "io/safetensors.h"

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "support/expect_error.h"
#include "support/safetensors_writer.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

using testing::HasSubstr;

std::string message(std::span<const std::byte> bytes) {
    return usage_message([&] { parse_safetensors(bytes, "model.safetensors"); });
}

std::string header_message(std::string_view header, std::size_t data_bytes = 8) {
    return message(safetensors_bytes(header, std::vector<std::byte>(data_bytes)));
}

SafetensorsWriter sound_file() {
    SafetensorsWriter writer;
    writer.tensor("b", Shape{2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6});
    writer.tensor("a", Shape{2}, std::vector<float>{0.5f, -1}, DType::BF16);
    writer.tensor("ids", "I64", Shape{1}, std::vector<std::byte>(8));
    return writer;
}

TEST(Safetensors, ReadsNamesTypesShapesAndData) {
    const TempFolder folder;
    sound_file().write(folder.file("m.safetensors"));
    const SafetensorsFile file(folder.file("m.safetensors"));
    ASSERT_EQ(file.tensors().size(), 3u);
    const SafetensorsTensor& b = file.tensors()[0];
    EXPECT_EQ(b.name, "b");
    EXPECT_EQ(b.stored, "F32");
    EXPECT_EQ(b.dtype, DType::F32);
    EXPECT_EQ(b.shape, (Shape{2, 3}));
    ASSERT_EQ(b.data.size(), 24u);
    float last;
    std::memcpy(&last, b.data.data() + 20, sizeof(last));
    EXPECT_EQ(last, 6);
    EXPECT_EQ(file.tensors()[1].dtype, DType::BF16);
    EXPECT_EQ(file.tensors()[2].dtype, DType::I64);
}

TEST(Safetensors, TakesMetadataScalarsAndEmptyTensors) {
    const auto bytes =
        safetensors_bytes(R"({"__metadata__":{"format":"pt","x":"{}"},)"
                          R"("s":{"data_offsets":[0,4],"dtype":"F32","shape":[]},)"
                          R"("e":{"dtype":"F16","shape":[0,7],"data_offsets":[4,4]}}   )",
                          std::vector<std::byte>(4));
    const auto tensors = parse_safetensors(bytes, "x");
    ASSERT_EQ(tensors.size(), 2u);
    EXPECT_EQ(tensors[0].shape.elements(), 1);
    EXPECT_EQ(tensors[1].shape, (Shape{0, 7}));
    EXPECT_TRUE(parse_safetensors(safetensors_bytes("{}"), "x").empty());
}

TEST(Safetensors, ListsTypesThatAreNoWeights) {
    const auto tensors = parse_safetensors(
        safetensors_bytes(R"({"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]},)"
                          R"("b":{"dtype":"F4","shape":[2,4],"data_offsets":[4,8]}})",
                          std::vector<std::byte>(8)),
        "x");
    EXPECT_EQ(tensors[0].stored, "F8_E4M3");
    EXPECT_FALSE(tensors[0].dtype);
    EXPECT_FALSE(tensors[1].dtype);
}

TEST(Safetensors, RefusesATruncatedFile) {
    const std::vector<std::byte> file = sound_file().bytes();
    ASSERT_NO_THROW(parse_safetensors(file, "x"));
    for (std::size_t size = 0; size < file.size(); ++size)
        EXPECT_THAT(message(std::span(file).first(size)), HasSubstr("model.safetensors")) << size;
}

TEST(Safetensors, ReadsOrRefusesAnyChangedBytes) {
    const std::vector<std::byte> sound = sound_file().bytes();
    std::mt19937 random(1);
    for (int i = 0; i < 100'000; ++i) {
        std::vector<std::byte> file = sound;
        for (int changes = 1 + int(random() % 3); changes > 0; --changes)
            file[random() % file.size()] = std::byte("{}[]\",:019aF"[random() % 12]);
        try {
            parse_safetensors(file, "x");
        } catch (const Error& error) {
            ASSERT_EQ(error.code(), ExitCode::Usage) << error.what();
        }
    }
}

TEST(Safetensors, RefusesAHeaderOfFourGigabytes) {
    EXPECT_THAT(message(ByteWriter().put(std::uint64_t(4) << 30).put_text("{}").bytes()),
                HasSubstr("header of 4294967296 bytes"));
    EXPECT_THAT(message(ByteWriter().put(~std::uint64_t(0)).put_text("{}").bytes()),
                HasSubstr("header of"));
    EXPECT_THAT(message(ByteWriter().put(std::uint64_t(99'000'000)).put_text("{}").bytes()),
                HasSubstr("ends inside the header"));
}

TEST(Safetensors, RefusesHeadersOfAnotherForm) {
    for (const char* header :
         {"",
          "[]",
          "null",
          "{",
          "{}x",
          "{\"a\":1}",
          "{\"a\":\"b\"}",
          "{\"a\":[]}",
          "{\"a\":null}",
          "{\"a\":{}}",
          "{\"a\":true}",
          "{\"a\":{\"dtype\":{}}}",
          "{\"__metadata__\":1}",
          "{\"__metadata__\":{\"a\":1}}",
          "{\"__metadata__\":{\"a\":{}}}",
          R"({"a":{"dtype":"F32","shape":[2]}})",
          R"({"a":{"dtype":["F32"],"shape":[2],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8]}})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":"08"}})",
          R"({"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,8]}})",
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})",
          R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})"})
        EXPECT_THAT(header_message(header), HasSubstr("header")) << header;
}

TEST(Safetensors, RefusesDeepNestingAtOnce) {
    EXPECT_THAT(header_message("{\"a\":" + std::string(1'000'000, '[')), HasSubstr("'a'"));
    EXPECT_THAT(header_message(std::string(1'000'000, '{')), HasSubstr("header"));
}

TEST(Safetensors, RefusesShapesAndOffsetsThatLie) {
    const auto with = [](std::string_view dtype, std::string_view shape, std::string_view offsets) {
        return header_message(fmt::format(
            R"({{"w":{{"dtype":"{}","shape":{},"data_offsets":{}}}}})", dtype, shape, offsets));
    };
    EXPECT_THAT(with("F32", "[3]", "[0,8]"), HasSubstr("does not take the 8 bytes"));
    EXPECT_THAT(with("BF16", "[2]", "[0,8]"), HasSubstr("does not take the 8 bytes"));
    EXPECT_THAT(with("F32", "[2]", "[8,0]"), HasSubstr("claims bytes 8 to 0"));
    EXPECT_THAT(with("F32", "[4]", "[0,16]"), HasSubstr("claims bytes 0 to 16 of 8"));
    EXPECT_THAT(with("F32", "[2]", "[18446744073709551608,18446744073709551615]"),
                HasSubstr("claims bytes"));
    EXPECT_THAT(with("F32", "[4294967296,4294967296,2]", "[0,8]"), HasSubstr("does not take"));
    EXPECT_THAT(with("F32", "[4294967296,4294967296,0]", "[0,0]"), HasSubstr("does not take"));
    EXPECT_THAT(with("F32", "[18446744073709551615]", "[0,8]"), HasSubstr("a dimension"));
    EXPECT_THAT(with("F4", "[3]", "[0,2]"), HasSubstr("does not take"));
    EXPECT_THAT(with("F33", "[2]", "[0,8]"), HasSubstr("unknown type 'F33'"));
    EXPECT_THAT(with("F32", "[1,1,1,1,2]", "[0,8]"), HasSubstr("5 dimensions"));
    EXPECT_THAT(with("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), HasSubstr("too many dimensions"));
}

TEST(Safetensors, RefusesOverlapsHolesAndARest) {
    const auto two = [](std::string_view first, std::string_view second, std::size_t data_bytes) {
        return header_message(
            fmt::format(R"({{"a":{{"dtype":"F32","shape":[2],"data_offsets":{}}},)"
                        R"("b":{{"dtype":"F32","shape":[2],"data_offsets":{}}}}})",
                        first, second),
            data_bytes);
    };
    EXPECT_THAT(two("[0,8]", "[4,12]", 12), HasSubstr("'b' begins at byte 4"));
    EXPECT_THAT(two("[0,8]", "[0,8]", 8), HasSubstr("begins at byte 0"));
    EXPECT_THAT(two("[0,8]", "[12,20]", 20), HasSubstr("'b' begins at byte 12"));
    EXPECT_THAT(two("[4,12]", "[12,20]", 20), HasSubstr("'a' begins at byte 4"));
    EXPECT_THAT(two("[0,8]", "[8,16]", 17), HasSubstr("the tensors take 16 bytes, 17 are there"));
}

TEST(Safetensors, RefusesANameThatOccursTwice) {
    EXPECT_THAT(header_message(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                               R"("a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"),
                HasSubstr("'a' has the name occurs twice"));
}

TEST(Safetensors, TellsAGitLfsPointer) {
    EXPECT_THAT(
        message(ByteWriter().put_text("version https://git-lfs.github.com/spec/v1").bytes()),
        HasSubstr("git lfs pull"));
}

}  // namespace
}  // namespace cake
