// Any bytes as a GGUF file: parsed from memory, then opened as a checkpoint whose weights are read.
#include <algorithm>
#include <cstdint>
#include <span>
#include <string_view>

#include "expect_usage_error.h"
#include "io/checkpoint.h"
#include "io/dequant.h"
#include "io/gguf.h"
#include "memory_file.h"

using namespace cake;

namespace {

void read_some(const Checkpoint& checkpoint) {
    for (const TensorInfo& info : checkpoint.tensors()) {
        const Shape& shape = info.shape;
        const std::int64_t row = shape.rank() > 1 ? shape.row_elements() : 1;
        const Range rows{shape[0] - std::min<std::int64_t>(shape[0], 5), shape[0]};
        const Range columns{row - std::min<std::int64_t>(row, 300), row};
        Tensor out = Tensor::host(DType::BF16, {rows.size(), columns.size()});
        expect_success_or_usage_error([&] { checkpoint.read(info.name, rows, columns, out); });
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    expect_success_or_usage_error([&] {
        parse_gguf(std::as_bytes(std::span(data, size)), "fuzz");
        const MemoryFile file({reinterpret_cast<const char*>(data), size});
        read_some(Checkpoint::open(file.path()));
    });
    return 0;
}
