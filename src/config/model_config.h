// What a model is: numbers read from config.json or from GGUF metadata. A model is data, not a class.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/dtype.h"

namespace cake {

class GgufFile;

enum class RopeScaling { None, Linear, Llama3, Yarn };

// Rotary position embedding: theta and how its frequencies are stretched for long contexts.
struct RopeConfig {
    double theta = 10000;
    RopeScaling scaling = RopeScaling::None;
    double factor = 1;
    double low_freq_factor = 1, high_freq_factor = 4;  // llama3
    double beta_fast = 32, beta_slow = 1;              // yarn
    double attention_factor = 1;                       // yarn: multiplies cos and sin
    int original_max_positions = 0;
    std::vector<float>
        divisors;  // GGUF's rope_freqs.weight, [d_head/2]; takes the place of llama3's rule
};

struct ModelConfig {
    std::string architecture;  // "llama", "mistral", "qwen2"
    std::string name;          // what the model says of itself, for people and for configs/models
    int n_layers = 0;
    int d_model = 0;
    int n_heads = 0;  // query heads
    int n_kv_heads = 0;
    int d_head = 0;
    int d_ff = 0;
    int vocab = 0;
    int max_positions = 0;   // context length, tokens
    int sliding_window = 0;  // 0: none
    float rms_eps = 1e-5f;
    RopeConfig rope;
    bool qkv_bias = false;
    bool tied_head = false;    // lm_head is the embedding
    DType dtype = DType::F32;  // of the file's large matrices

    int group() const { return n_heads / n_kv_heads; }
    std::int64_t parameters() const;
};

// `path`: a folder with config.json, a config.json itself, or a .gguf file. Weights are not touched.
// Usage errors name the file, the key, what was found and what is supported.
ModelConfig read_model_config(const std::string& path);

// The same from what is open or parsed already. `parts`: of a split model all of them. `file` names it in messages; `name`: what to call a model that has no
// name of its own.
ModelConfig model_config_from_gguf(std::span<const GgufFile> parts);
ModelConfig model_config_from_json(const nlohmann::json& config, const std::string& file,
                                   const std::string& name);

// Frequencies of the pairs of a head, F32, [d_head/2].
std::vector<float> rope_inv_freq(const RopeConfig& rope, int d_head);

const char* name(RopeScaling scaling);  // "none", "linear", "llama3", "yarn"

}  // namespace cake
