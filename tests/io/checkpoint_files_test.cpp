// Which files make a checkpoint: folders, shards, parts.
#include "io/checkpoint_files.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "io/checkpoint.h"
#include "support/expect_error.h"
#include "support/gguf_writer.h"
#include "support/safetensors_writer.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string message(const std::string& path) {
    return usage_message([&] { Checkpoint::open(path); });
}

float first_value(const Checkpoint& checkpoint, const std::string& name) {
    Tensor out = Tensor::host(DType::F32, {1});
    checkpoint.read(name, {0, 1}, {}, out);
    return out.span<float>()[0];
}

void write_vector(const TempFolder& folder, const char* file, const char* name, float value) {
    SafetensorsWriter writer;
    writer.tensor(name, Shape{1}, std::vector<float>{value});
    writer.tensor(std::string("extra.") + file, Shape{1}, std::vector<float>{0});
    writer.write(folder.file(file));
}

constexpr const char* index_name = "model.safetensors.index.json";

TEST(CheckpointFiles, FollowsTheIndexOfShards) {
    const TempFolder folder;
    write_vector(folder, "x-1.safetensors", "a", 1);
    write_vector(folder, "x-2.safetensors", "b", 2);
    folder.write(index_name, R"({"metadata": {"total_size": 8},
        "weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}})");
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    EXPECT_EQ(first_value(checkpoint, "a"), 1);
    EXPECT_EQ(first_value(checkpoint, "b"), 2);
    EXPECT_EQ(checkpoint.tensors().size(), 2u);  // what the index does not name is no part of it
}

TEST(CheckpointFiles, LetsTheIndexSayWhichOfTwoTensorsCounts) {
    const TempFolder folder;
    write_vector(folder, "x-1.safetensors", "a", 1);
    SafetensorsWriter second;
    second.tensor("a", Shape{1}, std::vector<float>{9});
    second.tensor("b", Shape{1}, std::vector<float>{2});
    second.write(folder.file("x-2.safetensors"));
    folder.write(index_name, R"({"weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}})");
    EXPECT_EQ(first_value(Checkpoint::open(folder.path()), "a"), 1);
}

TEST(CheckpointFiles, RefusesAnIndexThatNamesWhatIsNotThere) {
    const TempFolder folder;
    write_vector(folder, "x-1.safetensors", "a", 1);
    folder.write(index_name, R"({"weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}})");
    EXPECT_THAT(message(folder.path()),
                AllOf(HasSubstr("x-2.safetensors is missing"), HasSubstr(index_name)));
    folder.write(index_name, R"({"weight_map": {"a": "x-1.safetensors", "b": "x-1.safetensors"}})");
    EXPECT_THAT(message(folder.path()), AllOf(HasSubstr("'x-1.safetensors'"), HasSubstr("'b'")));
}

TEST(CheckpointFiles, RefusesAnIndexOfAnotherForm) {
    const TempFolder folder;
    for (const char* text :
         {"[]", "{}", R"({"weight_map": []})", R"({"weight_map": {}})",
          R"({"weight_map": {"a": 1}})", R"({"weight_map": {"a": "../x.safetensors"}})",
          R"({"weight_map": {"a": "/etc/passwd"}})", R"({"weight_map": {"a": ""}})", "{"}) {
        folder.write(index_name, text);
        EXPECT_THAT(message(folder.path()), HasSubstr(index_name)) << text;
    }
}

TEST(CheckpointFiles, SaysWhatAFolderLacks) {
    const TempFolder folder;
    EXPECT_THAT(message(folder.file("nowhere")), HasSubstr("no model at"));
    EXPECT_THAT(message(folder.path()), HasSubstr("neither model.safetensors nor"));
    folder.write("pytorch_model.bin", "x");
    EXPECT_THAT(message(folder.path()), HasSubstr("only pytorch_model.bin"));
    folder.write("m.gguf", "x");
    EXPECT_THAT(message(folder.path()), HasSubstr("give the file itself"));
    EXPECT_THAT(message(folder.write("model.safetensors", "")), HasSubstr("give its folder"));
    EXPECT_THAT(message(folder.path()), HasSubstr("is empty"));
}

std::string write_part(const TempFolder& folder, std::uint32_t part, std::uint32_t parts,
                       std::uint32_t name_part, std::uint32_t tensors = 2) {
    GgufWriter writer;
    writer.raw("split.no", 2, ByteWriter().put(std::uint16_t(part)).bytes());
    writer.raw("split.count", 2, ByteWriter().put(std::uint16_t(parts)).bytes());
    writer.raw("split.tensors.count", 5, ByteWriter().put(tensors).bytes());
    if (part == 0)
        writer.string("general.architecture", "llama");
    writer.tensor(fmt::format("t{}", part), Shape{1}, std::vector<float>{float(part)});
    const std::string path =
        folder.file(fmt::format("m-{:05}-of-{:05}.gguf", name_part + 1, parts));
    writer.write(path);
    return path;
}

TEST(CheckpointFiles, OpensAllPartsOfASplitGguf) {
    const TempFolder folder;
    const std::string first = write_part(folder, 0, 2, 0);
    write_part(folder, 1, 2, 1);
    const Checkpoint checkpoint = Checkpoint::open(first);
    EXPECT_EQ(first_value(checkpoint, "t0"), 0);
    EXPECT_EQ(first_value(checkpoint, "t1"), 1);
    EXPECT_EQ(checkpoint.gguf()->string("general.architecture"), "llama");
}

TEST(CheckpointFiles, RefusesPartsThatDoNotFit) {
    const TempFolder folder;
    const std::string first = write_part(folder, 0, 2, 0);
    EXPECT_THAT(message(first), HasSubstr("m-00002-of-00002.gguf is missing"));
    const std::string second = write_part(folder, 1, 2, 1);
    EXPECT_THAT(message(second), AllOf(HasSubstr("is part 2 of 2"), HasSubstr("-00001-of-00002")));
    write_part(folder, 0, 2, 1);
    EXPECT_THAT(message(first), HasSubstr("is not part 2 of 2"));
    write_part(folder, 0, 2, 0, 3);
    write_part(folder, 1, 2, 1, 3);
    EXPECT_THAT(message(first), HasSubstr("promises 3 tensors in 2 parts, 2 are there"));
    std::filesystem::rename(first, folder.file("other.gguf"));
    EXPECT_THAT(message(folder.file("other.gguf")), HasSubstr("its name must end in"));
}

}  // namespace
}  // namespace cake
