#include "io/checkpoint.h"

#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "io/dequant.h"
#include "io/gguf_names.h"
#include "support/expect_error.h"
#include "support/gguf_writer.h"
#include "support/reference_dequant.h"
#include "support/safetensors_writer.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<float> read(const Checkpoint& checkpoint, const std::string& name, Range rows,
                        Range columns) {
    Tensor out = Tensor::host(DType::F32, {rows.size(), columns.size()});
    checkpoint.read(name, rows, columns, out);
    return {out.span<float>().begin(), out.span<float>().end()};
}

std::vector<float> counted(std::int64_t n) {
    std::vector<float> out;
    for (std::int64_t i = 0; i < n; ++i)
        out.push_back(float(i));
    return out;
}

std::string written(const TempFolder& folder, const GgufWriter& writer) {
    writer.write(folder.file("m.gguf"));
    return folder.file("m.gguf");
}

TEST(Checkpoint, ReadsRowsAndColumnsOfAMatrix) {
    const TempFolder folder;
    SafetensorsWriter writer;
    writer.tensor("w", Shape{3, 4}, counted(12));
    writer.tensor("b", Shape{5}, counted(5), DType::BF16);
    writer.write(folder.file("model.safetensors"));
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    EXPECT_EQ(checkpoint.gguf(), nullptr);
    EXPECT_EQ(checkpoint.path(), folder.path());
    EXPECT_THAT(read(checkpoint, "w", {0, 3}, {0, 4}), testing::ElementsAreArray(counted(12)));
    EXPECT_THAT(read(checkpoint, "w", {1, 3}, {1, 3}), ElementsAre(5, 6, 9, 10));
    EXPECT_THAT(read(checkpoint, "w", {2, 2}, {0, 4}), ElementsAre());
    Tensor part = Tensor::host(DType::F32, {2});
    checkpoint.read("b", {3, 5}, {}, part);
    EXPECT_THAT(part.span<float>(), ElementsAre(3, 4));
}

TEST(Checkpoint, DescribesItsTensors) {
    const TempFolder folder;
    SafetensorsWriter writer;
    writer.tensor("w", Shape{3, 4}, counted(12), DType::F16);
    writer.write(folder.file("model.safetensors"));
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    const TensorInfo* w = checkpoint.find("w");
    ASSERT_NE(w, nullptr);
    EXPECT_EQ(w->dtype, DType::F16);
    EXPECT_EQ(w->shape, (Shape{3, 4}));
    EXPECT_EQ(w->bytes, 24u);
    EXPECT_EQ(w->file, folder.file("model.safetensors"));
    EXPECT_EQ(checkpoint.find("v"), nullptr);
    EXPECT_EQ(checkpoint.tensors().size(), 1u);
}

TEST(Checkpoint, RefusesSlicesOutsideATensor) {
    const TempFolder folder;
    SafetensorsWriter writer;
    writer.tensor("w", Shape{3, 4}, counted(12));
    writer.write(folder.file("model.safetensors"));
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    EXPECT_THROW(read(checkpoint, "w", {0, 4}, {0, 4}), Error);
    EXPECT_THROW(read(checkpoint, "w", {0, 3}, {2, 5}), Error);
    EXPECT_THROW(read(checkpoint, "w", {-1, 3}, {0, 4}), Error);
    Tensor small = Tensor::host(DType::F32, {2, 4});
    EXPECT_THROW(checkpoint.read("w", {0, 3}, {0, 4}, small), Error);
    EXPECT_THAT(usage_message([&] {
                    read(checkpoint, "v", {0, 1}, {0, 1});
                }),
                AllOf(HasSubstr(folder.path()), HasSubstr("'v'")));
}

TEST(Checkpoint, RefusesTypesOnlyWhenTheyAreReadAsWeights) {
    const TempFolder folder;
    SafetensorsWriter writer;
    writer.tensor("f64", "F64", Shape{1, 1}, std::vector<std::byte>(8));
    writer.tensor("f8", "F8_E4M3", Shape{2, 2}, std::vector<std::byte>(4));
    writer.tensor("i16", "I16", Shape{2}, std::vector<std::byte>(4));
    writer.write(folder.file("model.safetensors"));
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    EXPECT_EQ(checkpoint.find("f8")->dtype, DType::U8);
    EXPECT_EQ(checkpoint.find("f8")->stored, "F8_E4M3");
    EXPECT_EQ(checkpoint.find("i16")->bytes, 4u);
    for (const char* name : {"f64", "f8", "i16"})
        EXPECT_THAT(usage_message([&] {
                        read(checkpoint, name, {0, 1}, {0, 1});
                    }),
                    AllOf(HasSubstr("model.safetensors"), HasSubstr(name), HasSubstr("stored as")));
}

// Every type, as GGUF files hold them: a matrix of random blocks.
class CheckpointOfEveryType : public testing::TestWithParam<DType> {};

INSTANTIATE_TEST_SUITE_P(, CheckpointOfEveryType, testing::ValuesIn(weight_types),
                         [](const auto& info) { return std::string(name(info.param)); });

TEST_P(CheckpointOfEveryType, GivesSlicesEqualToPartsOfTheWhole) {
    constexpr std::int64_t n_rows = 7, n_columns = 512;
    const TempFolder folder;
    std::mt19937 random(4);
    GgufWriter writer;
    writer.tensor("blk.0.ffn_up.weight", GetParam(), Shape{n_rows, n_columns},
                  random_row(GetParam(), n_rows * n_columns, random));
    const Checkpoint checkpoint = Checkpoint::open(written(folder, writer));
    const std::string name = "model.layers.0.mlp.up_proj.weight";
    const std::vector<float> whole = read(checkpoint, name, {0, n_rows}, {0, n_columns});
    const std::byte* data = checkpoint.gguf()->tensors()[0].data;
    for (std::int64_t i = 0; i < n_rows * n_columns; ++i)
        ASSERT_NEAR(whole[std::size_t(i)], reference_element(GetParam(), data, i), 1e-4);

    for (const Range rows : {Range{0, 7}, Range{2, 5}, Range{6, 7}})
        for (const Range columns : {Range{0, 512}, Range{0, 256}, Range{5, 300}, Range{511, 512}}) {
            const std::vector<float> part = read(checkpoint, name, rows, columns);
            Tensor narrow = Tensor::host(DType::BF16, {rows.size(), columns.size()});
            checkpoint.read(name, rows, columns, narrow);
            std::size_t i = 0;
            for (std::int64_t r = rows.begin; r < rows.end; ++r)
                for (std::int64_t c = columns.begin; c < columns.end; ++c, ++i) {
                    ASSERT_EQ(part[i], whole[std::size_t(r * n_columns + c)]) << r << " " << c;
                    ASSERT_EQ(narrow.span<bf16>()[i].bits, to_bf16(part[i]).bits);
                }
        }
}

TEST_P(CheckpointOfEveryType, GivesWholeBlocksAsTheyLie) {
    constexpr std::int64_t n_rows = 5, n_columns = 768;
    const TempFolder folder;
    std::mt19937 random(4);
    GgufWriter writer;
    writer.tensor("blk.0.ffn_up.weight", GetParam(), Shape{n_rows, n_columns},
                  random_row(GetParam(), n_rows * n_columns, random));
    const Checkpoint checkpoint = Checkpoint::open(written(folder, writer));
    const std::string name = "model.layers.0.mlp.up_proj.weight";
    const std::byte* data = checkpoint.gguf()->tensors()[0].data;
    Tensor out = Tensor::host(GetParam(), {2, 512});
    checkpoint.read(name, {3, 5}, {256, 768}, out);
    const std::size_t row = bytes_of(GetParam(), n_columns), part = bytes_of(GetParam(), 512);
    for (std::size_t r : {0u, 1u})
        EXPECT_EQ(std::memcmp(static_cast<std::byte*>(out.view().data()) + r * part,
                              data + (3 + r) * row + bytes_of(GetParam(), 256), part),
                  0);
    if (is_quantized(GetParam())) {
        EXPECT_THROW(checkpoint.read(name, {3, 5}, {16, 528}, out), Error);
    }
}

TEST(Checkpoint, UndoesTheRowOrderOfBlocksToo) {
    const TempFolder folder;
    std::mt19937 random(4);
    const auto stored = random_row(DType::Q4_0, 8 * 32, random);
    GgufWriter writer;
    writer.string("general.architecture", "llama");
    writer.integer("llama.attention.head_count", 2);
    writer.tensor("blk.0.attn_q.weight", DType::Q4_0, Shape{8, 32}, stored);
    const Checkpoint checkpoint = Checkpoint::open(written(folder, writer));
    Tensor out = Tensor::host(DType::Q4_0, {8, 32});
    checkpoint.read("model.layers.0.self_attn.q_proj.weight", {0, 8}, {0, 32}, out);
    const std::size_t places[] = {0, 2, 1, 3, 4, 6, 5, 7};  // of the file: pairs side by side
    for (std::size_t r = 0; r < 8; ++r)
        EXPECT_EQ(std::memcmp(static_cast<std::byte*>(out.view().data()) + r * 18,
                              stored.data() + places[r] * 18, 18),
                  0)
            << r;
}

TEST(Checkpoint, NamesBlocksWithScalesThatAreNotFinite) {
    for (DType dtype : weight_types) {
        if (!is_quantized(dtype))
            continue;
        const bool two = dtype == DType::Q4_1 || dtype == DType::Q5_1 || dtype == DType::Q4_K ||
                         dtype == DType::Q5_K;
        for (std::size_t at : {std::size_t(dtype == DType::Q6_K ? 208 : 0), std::size_t(2)}) {
            if (at == 2 && !two)
                continue;
            const TempFolder folder;
            std::mt19937 random(3);
            auto rows = random_row(dtype, 3 * 512, random);
            const std::uint16_t nan = 0x7e00;
            std::memcpy(rows.data() + bytes_of(dtype, 512 + 256) + at, &nan, sizeof(nan));
            GgufWriter writer;
            writer.tensor("blk.0.ffn_up.weight", dtype, {3, 512}, rows);
            const Checkpoint checkpoint = Checkpoint::open(written(folder, writer));
            Tensor out = Tensor::host(dtype, {3, 512});
            EXPECT_THAT(
                usage_message([&] {
                    checkpoint.read("model.layers.0.mlp.up_proj.weight", {0, 3}, {0, 512}, out);
                }),
                HasSubstr("row 1, column 256"))
                << name(dtype);
        }
    }
}

TEST(GgufNames, AreThoseOfHuggingFace) {
    EXPECT_EQ(hugging_face_name("token_embd.weight"), "model.embed_tokens.weight");
    EXPECT_EQ(hugging_face_name("output_norm.weight"), "model.norm.weight");
    EXPECT_EQ(hugging_face_name("output.weight"), "lm_head.weight");
    EXPECT_EQ(hugging_face_name("blk.12.attn_norm.weight"),
              "model.layers.12.input_layernorm.weight");
    EXPECT_EQ(hugging_face_name("blk.0.ffn_norm.weight"),
              "model.layers.0.post_attention_layernorm.weight");
    EXPECT_EQ(hugging_face_name("blk.1.attn_k.bias"), "model.layers.1.self_attn.k_proj.bias");
    EXPECT_EQ(hugging_face_name("blk.1.attn_output.weight"),
              "model.layers.1.self_attn.o_proj.weight");
    EXPECT_EQ(hugging_face_name("blk.1.ffn_down.weight"), "model.layers.1.mlp.down_proj.weight");
    for (const char* name : {"rope_freqs.weight", "blk.x.attn_q.weight", "blk..attn_q.weight",
                             "blk.1.other.weight", "blk.1", "blk.", "blk.1.weight", ""})
        EXPECT_EQ(hugging_face_name(name), name);
}

// Two query heads of 4, one KV head; the value of a row is its row number in Hugging Face's order,
// written in the order of the converter: per head reshape(2, d/2), transposed.
GgufWriter attention_of(std::string_view architecture, bool interleaved) {
    const std::vector<std::int64_t> order = interleaved
                                                ? std::vector<std::int64_t>{0, 2, 1, 3, 4, 6, 5, 7}
                                                : std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6, 7};
    const auto rows = [&](std::size_t n, std::int64_t columns) {
        std::vector<float> out;
        for (std::size_t r = 0; r < n; ++r)
            for (std::int64_t c = 0; c < columns; ++c)
                out.push_back(float(10 * order[r] + c));
        return out;
    };
    GgufWriter writer;
    writer.string("general.architecture", architecture);
    writer.integer(fmt::format("{}.attention.head_count", architecture), 2);
    writer.integer(fmt::format("{}.attention.head_count_kv", architecture), 1);
    writer.tensor("blk.0.attn_q.weight", Shape{8, 3}, rows(8, 3));
    writer.tensor("blk.0.attn_k.weight", Shape{4, 3}, rows(4, 3));
    writer.tensor("blk.0.attn_v.weight", Shape{4, 3}, counted(12));
    writer.tensor("blk.0.attn_q.bias", Shape{8}, rows(8, 1));
    return writer;
}

TEST(Checkpoint, UndoesTheRowOrderOfLlamaFiles) {
    for (auto [architecture, interleaved] : {std::pair("llama", true), std::pair("qwen2", false)}) {
        const TempFolder folder;
        const Checkpoint checkpoint =
            Checkpoint::open(written(folder, attention_of(architecture, interleaved)));
        const std::string layer = "model.layers.0.self_attn.";
        EXPECT_THAT(read(checkpoint, layer + "q_proj.weight", {0, 8}, {0, 1}),
                    ElementsAre(0, 10, 20, 30, 40, 50, 60, 70));
        EXPECT_THAT(read(checkpoint, layer + "q_proj.weight", {5, 7}, {1, 3}),
                    ElementsAre(51, 52, 61, 62));
        EXPECT_THAT(read(checkpoint, layer + "k_proj.weight", {1, 3}, {0, 1}), ElementsAre(10, 20));
        EXPECT_THAT(read(checkpoint, layer + "v_proj.weight", {1, 2}, {0, 3}),
                    ElementsAre(3, 4, 5));
        Tensor bias = Tensor::host(DType::F32, {3});
        checkpoint.read(layer + "q_proj.bias", {1, 4}, {}, bias);
        EXPECT_THAT(bias.span<float>(), ElementsAre(10, 20, 30));
    }
}

TEST(Checkpoint, RefusesHeadsThatDoNotFitTheRows) {
    const TempFolder folder;
    for (std::uint32_t heads : {0u, 3u, 8u, 4'000'000'000u}) {
        GgufWriter writer;
        writer.string("general.architecture", "llama");
        writer.integer("llama.attention.head_count", heads);
        writer.tensor("blk.0.attn_q.weight", Shape{8, 3}, counted(24));
        EXPECT_THAT(usage_message([&] { Checkpoint::open(written(folder, writer)); }),
                    HasSubstr("does not split into"))
            << heads;
    }
    GgufWriter writer;
    writer.string("general.architecture", "llama");
    writer.tensor("blk.0.attn_q.weight", Shape{8, 3}, counted(24));
    EXPECT_THAT(usage_message([&] { Checkpoint::open(written(folder, writer)); }),
                HasSubstr("head_count is missing"));
}

std::string complaint(const Checkpoint& checkpoint, const std::string& name, Range rows,
                      Range columns, DType to = DType::F32) {
    Tensor out = Tensor::host(to, {rows.size(), columns.size()});
    return usage_message([&] { checkpoint.read(name, rows, columns, out); });
}

TEST(Checkpoint, NamesTheFirstWeightOfASliceThatIsNotFinite) {
    constexpr float nan = std::numeric_limits<float>::quiet_NaN(),
                    infinity = std::numeric_limits<float>::infinity();
    const TempFolder folder;
    SafetensorsWriter writer;
    for (DType dtype : {DType::F32, DType::BF16, DType::F16}) {
        std::vector<float> values = counted(40);
        values[13] = nan;
        values[39] = -infinity;
        writer.tensor(std::string(name(dtype)), Shape{4, 10}, values, dtype);
    }
    writer.tensor("bias", Shape{3}, std::vector<float>{1, 2, infinity});
    writer.write(folder.file("model.safetensors"));
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    for (const char* tensor : {"f32", "bf16", "f16"})
        for (DType to : {DType::F32, DType::BF16, DType::F16}) {
            SCOPED_TRACE(tensor);
            EXPECT_THAT(complaint(checkpoint, tensor, {0, 4}, {0, 10}, to),
                        AllOf(HasSubstr("model.safetensors: weight '" + std::string(tensor)),
                              HasSubstr("row 1, column 3;")));
            EXPECT_THAT(complaint(checkpoint, tensor, {2, 4}, {5, 10}, to),
                        HasSubstr("row 3, column 9;"));
        }
    // A slice without them is another rank's, and read.
    EXPECT_THAT(read(checkpoint, "f32", {1, 2}, {0, 3}), ElementsAre(10, 11, 12));
    Tensor bias = Tensor::host(DType::F32, {2});
    EXPECT_THAT(usage_message([&] {
                    checkpoint.read("bias", {1, 3}, {}, bias);
                }),
                HasSubstr("weight 'bias' is infinite or not a number at element 2;"));
}

TEST(Checkpoint, NamesWeightsThatAreNotFiniteInGgufToo) {
    std::mt19937 random(3);
    const TempFolder folder;
    GgufWriter writer;
    writer.string("general.architecture", "llama");
    writer.integer("llama.attention.head_count", 2);
    std::vector<std::byte> scale = random_row(DType::Q8_0, 4 * 64, random);
    const std::uint16_t infinity = 0x7c00;
    std::memcpy(scale.data() + 5 * 34, &infinity, sizeof(infinity));  // row 2, elements 32..63
    writer.tensor("blk.0.ffn_up.weight", DType::Q8_0, {4, 64}, scale);
    std::vector<float> q = counted(16);
    q[3 * 2] = std::numeric_limits<float>::quiet_NaN();  // the file's row 3 of a head of 4: 2i + 1
    writer.tensor("blk.0.attn_q.weight", Shape{8, 2}, q);
    const Checkpoint checkpoint = Checkpoint::open(written(folder, writer));
    EXPECT_THAT(complaint(checkpoint, "model.layers.0.mlp.up_proj.weight", {0, 4}, {0, 64}),
                AllOf(HasSubstr("m.gguf: weight 'model.layers.0.mlp.up_proj.weight'"),
                      HasSubstr("row 2, column 3")));
    EXPECT_THAT(complaint(checkpoint, "model.layers.0.self_attn.q_proj.weight", {0, 8}, {0, 2}),
                HasSubstr("row 3, column 0;"));
}

TEST(Checkpoint, RefusesTwoTensorsOfOneName) {
    const TempFolder folder;
    GgufWriter writer;
    writer.tensor("output.weight", Shape{1}, counted(1));
    writer.tensor("lm_head.weight", Shape{1}, counted(1));
    EXPECT_THAT(usage_message([&] { Checkpoint::open(written(folder, writer)); }),
                HasSubstr("'lm_head.weight' occurs twice"));
}

}  // namespace
}  // namespace cake
