// Any bytes as a safetensors file; the elements of weights are converted.
#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "expect_usage_error.h"
#include "io/dequant.h"
#include "io/safetensors.h"

using namespace cake;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    expect_success_or_usage_error([&] {
        for (const auto& tensor : parse_safetensors(std::as_bytes(std::span(data, size)), "fuzz")) {
            if (!tensor.dtype || !is_weight_type(*tensor.dtype))
                continue;
            std::array<float, 256> out;
            const std::int64_t n = tensor.shape.elements();
            const std::int64_t part = std::min<std::int64_t>(n, 256);
            convert_row(*tensor.dtype, tensor.data.data(), n - part, part, DType::F32, out.data());
        }
    });
    return 0;
}
