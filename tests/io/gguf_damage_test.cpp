// GGUF files that are not what they say.
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "io/gguf.h"
#include "support/byte_writer.h"
#include "support/expect_error.h"
#include "support/gguf_writer.h"

namespace cake {
namespace {

using std::uint64_t;
using testing::AllOf;
using testing::HasSubstr;

std::string message(std::span<const std::byte> bytes) {
    return usage_message([&] { parse_gguf(bytes, "m.gguf"); });
}

ByteWriter header(uint64_t n_tensors, uint64_t n_metadata, std::uint32_t version = 3) {
    return ByteWriter().put_text("GGUF").put(version).put(n_tensors).put(n_metadata);
}

// A file of one F32 tensor that claims these dimensions and this offset; 64 bytes of data follow.
std::vector<std::byte> one_tensor(std::vector<uint64_t> dims, std::uint32_t type, uint64_t offset) {
    ByteWriter out = header(1, 0);
    out.put_string("blk.0.ffn_up.weight").put(std::uint32_t(dims.size()));
    for (uint64_t dim : dims)
        out.put(dim);
    out.put(type).put(offset).pad_to(32);
    return out.put_bytes(std::vector<std::byte>(64)).bytes();
}

std::vector<std::byte> sound_file() {
    GgufWriter writer;
    writer.string("general.architecture", "llama");
    writer.integer("llama.block_count", 2);
    writer.strings("tokens", std::vector<std::string>{"a", "bc", ""});
    writer.numbers("scores", std::vector<float>{1, 2});
    writer.boolean("flag", true);
    writer.tensor("token_embd.weight", Shape{2, 3}, std::vector<float>(6, 1.0f));
    writer.tensor("output.weight", DType::Q4_1, Shape{1, 32}, std::vector<std::byte>(20));
    return writer.bytes();
}

TEST(GgufDamage, EveryTruncationIsAUsageError) {
    const std::vector<std::byte> file = sound_file();
    ASSERT_NO_THROW(parse_gguf(file, "m.gguf"));
    const std::size_t data_end = file.size() - 12;  // 20 bytes of the last tensor, padded to 32
    for (std::size_t size = 0; size < data_end; ++size)
        EXPECT_THAT(message(std::span(file).first(size)), HasSubstr("m.gguf")) << size;
}

TEST(GgufDamage, AnyChangedBytesAreReadOrRefused) {
    const std::vector<std::byte> sound = sound_file();
    std::mt19937 random(1);
    for (int i = 0; i < 200'000; ++i) {
        std::vector<std::byte> file = sound;
        for (int changes = 1 + int(random() % 4); changes > 0; --changes)
            file[random() % file.size()] = std::byte(random() % 3 == 0 ? 0xff : random() % 256);
        try {
            parse_gguf(file, "m.gguf");
        } catch (const Error& error) {
            ASSERT_EQ(error.code(), ExitCode::Usage) << error.what();
        }
    }
}

TEST(GgufDamage, OtherFilesAreToldByTheirBeginning) {
    EXPECT_THAT(message(ByteWriter().put_text("<html>not found</html>").bytes()),
                HasSubstr("not a GGUF file"));
    EXPECT_THAT(message(ByteWriter().put_text("version https://git-lfs.github").bytes()),
                HasSubstr("git lfs pull"));
    EXPECT_THAT(message(ByteWriter().put_text("tjgg....").bytes()), HasSubstr("GGML"));
    EXPECT_THAT(message(header(0, 0, 1).bytes()), HasSubstr("version 1"));
    EXPECT_THAT(message(header(0, 0, 4).bytes()), HasSubstr("version 4"));
    EXPECT_THAT(message(header(0, 0, 3u << 24).bytes()), HasSubstr("big-endian"));
}

TEST(GgufDamage, CountsAreNotBelieved) {
    EXPECT_THAT(message(header(~uint64_t(0), 0).bytes()), HasSubstr("ends inside"));
    EXPECT_THAT(message(header(0, ~uint64_t(0)).bytes()), HasSubstr("ends inside"));
    EXPECT_THAT(message(header(0, 1).put(~uint64_t(0)).bytes()), HasSubstr("a metadata key"));
    // A list of 2^62 strings, and one of as many bytes.
    for (std::uint32_t type : {8u, 0u})
        EXPECT_THAT(message(header(0, 1)
                                .put_string("k")
                                .put(9u)
                                .put(type)
                                .put(uint64_t(1) << 62)
                                .put(uint64_t(0))
                                .bytes()),
                    HasSubstr("claims 4611686018427387904 elements"));
    // A list whose count the bytes could hold, were they strings of no length, but not these.
    EXPECT_THAT(message(header(0, 1)
                            .put_string("k")
                            .put(9u)
                            .put(8u)
                            .put(uint64_t(3))
                            .put_string("a")
                            .put_string("b")
                            .bytes()),
                HasSubstr("ends inside"));
}

TEST(GgufDamage, ListsTakeBoundedMemory) {
    const uint64_t n = (16u << 20) + 1;
    ByteWriter file = header(0, 1).put_string("k").put(9u).put(0u).put(n);
    EXPECT_THAT(message(file.put_bytes(std::vector<std::byte>(n)).bytes()),
                HasSubstr("are allowed"));
}

TEST(GgufDamage, MetadataOfNoMeaningIsRefused) {
    EXPECT_THAT(message(header(0, 1).put_string("k").put(13u).put(0u).bytes()),
                HasSubstr("unknown type 13"));
    EXPECT_THAT(message(header(0, 1).put_string("k").put(7u).put(std::uint8_t(2)).bytes()),
                HasSubstr("boolean"));
    EXPECT_THAT(message(header(0, 1).put_string("k").put(9u).put(9u).put(uint64_t(0)).bytes()),
                HasSubstr("list of lists"));
    EXPECT_THAT(
        message(
            header(0, 2).put_string("k").put(4u).put(1u).put_string("k").put(4u).put(2u).bytes()),
        HasSubstr("'k' occurs twice"));
    EXPECT_THAT(message(header(0, 1)
                            .put_string("k")
                            .put(9u)
                            .put(10u)
                            .put(uint64_t(1))
                            .put(~uint64_t(0))
                            .bytes()),
                HasSubstr("63 bits"));
    for (std::uint32_t alignment : {0u, 1u, 4u, 24u, 1u << 31})
        EXPECT_THAT(
            message(header(0, 1).put_string("general.alignment").put(4u).put(alignment).bytes()),
            HasSubstr("general.alignment"));
}

TEST(GgufDamage, DimensionsThatCannotBeAreRefused) {
    ASSERT_NO_THROW(parse_gguf(one_tensor({16}, 0, 0), "m.gguf"));
    for (std::vector<uint64_t> dims :
         std::vector<std::vector<uint64_t>>{{},
                                            {1, 1, 1, 1, 1},
                                            {0},
                                            {~uint64_t(0)},
                                            {uint64_t(1) << 63},
                                            {uint64_t(1) << 32, uint64_t(1) << 32},
                                            {uint64_t(1) << 33, uint64_t(1) << 33, 4},
                                            {1 << 20}})
        EXPECT_THAT(message(one_tensor(dims, 0, 0)), HasSubstr("'blk.0.ffn_up.weight'"));
}

TEST(GgufDamage, RowsThatAreNotWholeBlocksAreRefused) {
    EXPECT_THAT(message(one_tensor({16}, 8, 0)), HasSubstr("whole blocks of 32"));
    EXPECT_THAT(message(one_tensor({16, 4}, 2, 0)), HasSubstr("whole blocks of 32"));
    EXPECT_THAT(message(one_tensor({64}, 12, 0)), HasSubstr("whole blocks of 256"));
}

TEST(GgufDamage, TensorsOutsideTheFileAreRefused) {
    EXPECT_THAT(message(one_tensor({16}, 0, 32)), HasSubstr("past the end"));
    EXPECT_THAT(message(one_tensor({17}, 0, 0)), HasSubstr("past the end"));
    EXPECT_THAT(message(one_tensor({1}, 0, ~uint64_t(0) - 31)), HasSubstr("past the end"));
    EXPECT_THAT(message(one_tensor({1}, 0, 4)), HasSubstr("not a multiple of 32"));
}

TEST(GgufDamage, UnknownTypesAreNamed) {
    EXPECT_THAT(message(one_tensor({256}, 10, 0)), AllOf(HasSubstr("Q2_K"), HasSubstr("Q4_K")));
    EXPECT_THAT(message(one_tensor({256}, 39, 0)), HasSubstr("MXFP4"));
    EXPECT_THAT(message(one_tensor({256}, 4000, 0)), HasSubstr("number 4000"));
}

TEST(GgufDamage, TensorsThatOverlapOrShareANameAreRefused) {
    const auto two = [](std::string_view second, uint64_t offset) {
        ByteWriter out = header(2, 0);
        out.put_string("a").put(1u).put(uint64_t(16)).put(0u).put(uint64_t(0));
        out.put_string(second).put(1u).put(uint64_t(8)).put(0u).put(offset).pad_to(32);
        return out.put_bytes(std::vector<std::byte>(96)).bytes();
    };
    EXPECT_NO_THROW(parse_gguf(two("b", 64), "m.gguf"));
    EXPECT_THAT(message(two("b", 32)), HasSubstr("'a' and 'b' overlap"));
    EXPECT_THAT(message(two("a", 64)), HasSubstr("'a' occurs twice"));
}

TEST(GgufDamage, NamesInMessagesAreShortAndPlain) {
    ByteWriter out = header(0, 1);
    const std::string text =
        message(out.put_string("\x1b[31m" + std::string(5000, 'x')).put(99u).bytes());
    EXPECT_LT(text.size(), 400u);
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace cake
