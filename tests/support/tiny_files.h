// Tiny models written as every kind of file: safetensors in one piece or in shards, GGUF in one piece or in parts.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/tensor.h"
#include "support/temp_folder.h"

namespace cake::test {

// A tensor as a file stores it, and the numbers that this means.
struct Weight {
    std::string name;  // Hugging Face's
    Shape shape;
    DType dtype = DType::F32;
    std::vector<std::byte> stored;
    std::vector<float> values;
};

struct TinyModel {
    nlohmann::json config;  // as in config.json
    std::vector<Weight> weights;
};

// `values`, rounded to a plain type.
Weight plain_weight(const std::string& name, Shape shape, std::span<const float> values,
                    DType dtype = DType::F32);

// A model of tests/golden.
TinyModel golden_tiny(const std::string& name);

// Two layers, 4 query heads, 2 KV heads. Matrices are of type `dtype`, those of q_proj of type `q_dtype`; norms and
// biases F32, as converters write them. Two ranks cut o_proj's columns in the middle: inside a block of 32 where d_head
// is 24, of 256 where it is 64.
TinyModel random_tiny(bool qwen2, DType dtype, DType q_dtype);
inline TinyModel random_tiny(bool qwen2, DType dtype) { return random_tiny(qwen2, dtype, dtype); }

// One file of F32: what the others are compared with. All return what to open.
std::string write_f32_folder(const TempFolder& folder, const TinyModel& model);
// Tensors dealt to `n` shards in turn, so that each layer is in several.
std::string write_shards(const TempFolder& folder, const TinyModel& model, int n);
// `parts`: of several the first holds metadata only, as llama.cpp's --no-tensor-first-split leaves it.
std::string write_gguf(const TempFolder& folder, const TinyModel& model, int parts = 1);

}  // namespace cake::test
