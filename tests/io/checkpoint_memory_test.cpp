// Slices of large files cost their own size in memory, not the file's.
#include <cstring>
#include <fstream>
#include <string>
#include <unistd.h>
#include <vector>

#include <gmock/gmock.h>

#include "io/checkpoint.h"
#include "support/safetensors_writer.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

// A number of /proc/self/status in bytes.
std::size_t memory(const std::string& field) {
    std::ifstream status("/proc/self/status");
    std::string name;
    for (std::size_t kilobytes; status >> name;)
        if (name == field + ":" && status >> kilobytes)
            return kilobytes * 1024;
    return 0;
}

// Sets the peak (VmHWM) to what is resident now. Not every kernel lets a process do so.
bool reset_peak() {
    std::ofstream("/proc/self/clear_refs") << "5" << std::flush;
    return memory("VmHWM") <= memory("VmRSS") + (1u << 20);
}

// A sparse file of one bf16 matrix.
void write_large(const std::string& path, std::int64_t rows, std::int64_t columns) {
    const std::size_t bytes = std::size_t(rows * columns * 2);
    const auto start = safetensors_bytes(
        fmt::format(R"({{"w":{{"dtype":"BF16","shape":[{},{}],"data_offsets":[0,{}]}}}})", rows,
                    columns, bytes));
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(start.data()), std::streamsize(start.size()));
    ASSERT_EQ(::truncate(path.c_str(), off_t(start.size() + bytes)), 0);
}

TEST(CheckpointMemory, GrowsByTheSliceAlone) {
    constexpr std::int64_t rows = 16384, columns = 8192;  // 256 MiB
    constexpr std::size_t allowed = std::size_t(16) << 20;
    const TempFolder folder;
    write_large(folder.file("model.safetensors"), rows, columns);
    const Checkpoint checkpoint = Checkpoint::open(folder.path());

    Tensor by_columns = Tensor::host(DType::BF16, {rows, columns / 8});
    Tensor by_rows = Tensor::host(DType::BF16, {rows / 8, columns});
    for (Tensor* slice : {&by_columns, &by_rows})  // so that all pages of the slices are there
        std::memset(slice->view().data(), 1, slice->bytes());
    if (!reset_peak())
        GTEST_SKIP() << "this system does not let a process reset its peak of memory";
    const std::size_t before = memory("VmRSS");
    // Columns touch every page of the file, rows an eighth of them.
    checkpoint.read("w", {0, rows}, {columns / 8, columns / 4}, by_columns);
    EXPECT_LT(memory("VmHWM"), before + allowed);
    EXPECT_LT(memory("VmRSS"), before + (2u << 20));
    for (std::int64_t i = 0; i < 8; ++i)
        checkpoint.read("w", {i * rows / 8, (i + 1) * rows / 8}, {0, columns}, by_rows);
    EXPECT_LT(memory("VmHWM"), before + allowed);
    EXPECT_LT(memory("VmRSS"), before + (2u << 20));
    EXPECT_EQ(by_rows.span<bf16>()[77].bits, 0);
}

}  // namespace
}  // namespace cake
