// The names of Hugging Face's files for the tensors of GGUF files, and their row order.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "io/gguf.h"

namespace cake {

// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; names that have no counterpart
// ("rope_freqs.weight") stay as they are.
std::string hugging_face_name(std::string_view gguf_name);

// Files of the llama architecture (Mistral's too) hold the rows of q and k so that rotation pairs
// (2i, 2i + 1) lie side by side; Hugging Face pairs (i, i + d/2). Returns the head size d of such a
// tensor, 0 where rows are in Hugging Face's order. `name`: GGUF's. Usage error where the
// metadata of heads does not fit the tensor.
std::int64_t interleaved_head(const GgufFile& metadata, std::string_view name, const Shape& shape);

// Where row `row` of Hugging Face's order lies among interleaved rows of heads of `d`.
inline std::int64_t interleaved_row(std::int64_t row, std::int64_t d) {
    const std::int64_t in_head = row % d;
    const std::int64_t half = d / 2;
    return row - in_head + 2 * (in_head % half) + in_head / half;
}

}  // namespace cake
