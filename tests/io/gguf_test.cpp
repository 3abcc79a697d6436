#include "io/gguf.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "support/byte_writer.h"
#include "support/expect_error.h"
#include "support/gguf_writer.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsNull;
using testing::Pointee;

GgufFile written(const TempFolder& folder, const GgufWriter& writer) {
    writer.write(folder.file("m.gguf"));
    return GgufFile(folder.file("m.gguf"));
}

TEST(Gguf, ReadsMetadataOfEveryKind) {
    const TempFolder folder;
    GgufWriter writer;
    writer.integer("n", 7);
    writer.number("x", 0.5f);
    writer.boolean("b", true);
    writer.string("s", "Grüße");
    writer.strings("ss", std::vector<std::string>{"a", "", "c"});
    writer.integers("ns", std::vector<std::int32_t>{-1, 2});
    writer.numbers("xs", std::vector<float>{1.5f});
    const GgufFile file = written(folder, writer);
    EXPECT_EQ(file.integer("n"), 7);
    EXPECT_EQ(file.number("x"), 0.5);
    EXPECT_EQ(file.number("n"), 7.0);
    EXPECT_EQ(file.boolean("b"), true);
    EXPECT_EQ(file.string("s"), "Grüße");
    EXPECT_THAT(file.strings("ss"), Pointee(ElementsAre("a", "", "c")));
    EXPECT_THAT(file.integers("ns"), Pointee(ElementsAre(-1, 2)));
    EXPECT_THAT(file.numbers("xs"), Pointee(ElementsAre(1.5)));
    EXPECT_THAT(file.keys(), ElementsAre("b", "n", "ns", "s", "ss", "x", "xs"));
}

TEST(Gguf, HasNothingUnderAbsentKeys) {
    const TempFolder folder;
    GgufWriter writer;
    writer.integer("m", 1);
    const GgufFile file = written(folder, writer);
    EXPECT_THAT(file.find("a"), IsNull());
    EXPECT_THAT(file.find("z"), IsNull());
    EXPECT_EQ(file.integer("k"), std::nullopt);
    EXPECT_EQ(file.string("k"), std::nullopt);
    EXPECT_THAT(file.strings("k"), IsNull());
}

TEST(Gguf, NamesFileAndKeyOfAValueOfAnotherType) {
    const TempFolder folder;
    GgufWriter writer;
    writer.string("llama.block_count", "thirty");
    writer.number("x", 1.0f);
    writer.raw("huge", 10, ByteWriter().put(~std::uint64_t(0)).bytes());
    const GgufFile file = written(folder, writer);
    EXPECT_THAT(usage_message([&] { file.integer("llama.block_count"); }),
                AllOf(HasSubstr("m.gguf"), HasSubstr("llama.block_count"), HasSubstr("a string")));
    usage_message([&] { file.integer("x"); });
    usage_message([&] { file.boolean("x"); });
    usage_message([&] { file.strings("x"); });
    EXPECT_THAT(usage_message([&] { file.integer("huge"); }), HasSubstr("18446744073709551615"));
    EXPECT_EQ(file.number("huge"), 0x1p64);
}

TEST(Gguf, ReadsIntegersOfEveryWidth) {
    const TempFolder folder;
    GgufWriter writer;
    writer.raw("u8", 0, ByteWriter().put(std::uint8_t(200)).bytes());
    writer.raw("i8", 1, ByteWriter().put(std::int8_t(-100)).bytes());
    writer.raw("u16", 2, ByteWriter().put(std::uint16_t(60000)).bytes());
    writer.raw("i16", 3, ByteWriter().put(std::int16_t(-30000)).bytes());
    writer.raw("i32", 5, ByteWriter().put(std::int32_t(-70000)).bytes());
    writer.raw("u64", 10, ByteWriter().put(std::uint64_t(1) << 40).bytes());
    writer.raw("i64", 11, ByteWriter().put(-(std::int64_t(1) << 40)).bytes());
    writer.raw("f64", 12, ByteWriter().put(0.1).bytes());
    writer.raw("bools", 9,
               ByteWriter().put(7u).put(std::uint64_t(2)).put(std::uint16_t(0x0100)).bytes());
    writer.raw("bytes", 9,
               ByteWriter().put(0u).put(std::uint64_t(2)).put(std::uint16_t(0xff01)).bytes());
    const GgufFile file = written(folder, writer);
    EXPECT_EQ(file.integer("u8"), 200);
    EXPECT_EQ(file.integer("i8"), -100);
    EXPECT_EQ(file.integer("u16"), 60000);
    EXPECT_EQ(file.integer("i16"), -30000);
    EXPECT_EQ(file.integer("i32"), -70000);
    EXPECT_EQ(file.integer("u64"), std::int64_t(1) << 40);
    EXPECT_EQ(file.integer("i64"), -(std::int64_t(1) << 40));
    EXPECT_EQ(file.number("f64"), 0.1);
    EXPECT_THAT(file.integers("bools"), Pointee(ElementsAre(0, 1)));
    EXPECT_THAT(file.integers("bytes"), Pointee(ElementsAre(1, 255)));
}

TEST(Gguf, ReversesDimensions) {
    const TempFolder folder;
    GgufWriter writer(2);
    const std::vector<float> data = {1, 2, 3, 4, 5, 6, 7, 8};
    writer.tensor("m", Shape{2, 4}, data);
    writer.tensor("v", Shape{1}, std::vector<float>{9});
    writer.tensor("q", DType::Q8_0, Shape{3, 64}, std::vector<std::byte>(3 * 68));
    const GgufFile file = written(folder, writer);
    ASSERT_EQ(file.tensors().size(), 3u);
    EXPECT_EQ(file.tensors()[0].name, "m");
    EXPECT_EQ(file.tensors()[0].shape, (Shape{2, 4}));
    EXPECT_EQ(file.tensors()[1].shape, (Shape{1}));
    EXPECT_EQ(file.tensors()[2].dtype, DType::Q8_0);
    EXPECT_EQ(file.tensors()[2].shape, (Shape{3, 64}));
    float last;
    std::memcpy(&last, file.tensors()[0].data + 28, sizeof(last));
    EXPECT_EQ(last, 8);
    EXPECT_EQ(file.tensors()[1].data - file.tensors()[0].data, 32);
}

TEST(Gguf, KeepsToTheAlignmentItStates) {
    ByteWriter file;
    file.put_text("GGUF").put(3u).put(std::uint64_t(1)).put(std::uint64_t(1));
    file.put_string("general.alignment").put(4u).put(256u);
    file.put_string("t").put(1u).put(std::uint64_t(2)).put(0u).put(std::uint64_t(256));
    file.pad_to(256).put(std::uint64_t(0)).pad_to(256).put(1.0f).put(2.0f);
    const GgufContents contents = parse_gguf(file.bytes(), "x");
    EXPECT_EQ(contents.tensors[0].data - file.bytes().data(), 512);
}

TEST(Gguf, StaysValidWhenMoved) {
    const TempFolder folder;
    GgufWriter writer;
    writer.tensor("v", Shape{1}, std::vector<float>{9});
    GgufFile first = written(folder, writer);
    const GgufFile second(std::move(first));
    float value;
    std::memcpy(&value, second.tensors()[0].data, sizeof(value));
    EXPECT_EQ(value, 9);
}

}  // namespace
}  // namespace cake
