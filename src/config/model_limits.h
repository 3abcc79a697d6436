// What a model's numbers may be, whatever file they come from. Generous: they exist so that a
// damaged file is one clean message, and so that no product of sizes overflows.
#pragma once

#include <cstdint>
#include <string>

#include "config/model_config.h"

namespace cake {

struct ModelLimits {
    static constexpr std::int64_t layers = 1024;
    static constexpr std::int64_t width = 1 << 20;  // d_model, heads * d_head
    static constexpr std::int64_t heads = 4096;
    static constexpr std::int64_t d_ff = 1 << 22;
    static constexpr std::int64_t vocab = 1 << 24;
    static constexpr std::int64_t positions = 1 << 27;  // tokens
    static constexpr std::int64_t d_head = 256;  // and a multiple of 8: what attention kernels take
    static constexpr double least_rope_theta = 2, rope_theta = 1e12;
    static constexpr double rope_factor = 4096;
};

// Checks what holds between the numbers (heads divide, d_head fits), and lengthens max_positions by
// rope scaling. Usage errors name `file`.
void finish_model_config(ModelConfig& config, const std::string& file);

// The factor of cos and sin that YaRN derives from how far it stretches (transformers' get_mscale).
double yarn_attention_factor(double factor, double mscale = 1);

}  // namespace cake
