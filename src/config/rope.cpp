// Frequencies of rotary embeddings, computed in float32 step by step as Hugging Face transformers
// 4.57 does (modeling_rope_utils.py): the models were trained and are judged with those values.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "config/model_config.h"
#include "config/model_limits.h"

namespace cake {
namespace {

// Long waves are stretched by `factor`, short ones kept, those between blended.
void scale_llama3(const RopeConfig& rope, std::vector<float>& inv_freq) {
    const float original = float(rope.original_max_positions);
    const float low = float(rope.low_freq_factor), high = float(rope.high_freq_factor);
    const float longest_kept = original / high, shortest_stretched = original / low;
    for (float& w : inv_freq) {
        const float wavelength = float(2 * std::numbers::pi) / w;
        if (wavelength < longest_kept)
            continue;
        const float stretched = w / float(rope.factor);
        if (wavelength > shortest_stretched) {
            w = stretched;
        } else {
            const float s = (original / wavelength - low) / (high - low);
            w = (1 - s) * stretched + s * w;
        }
    }
}

// The pair of a head that turns `rotations` times over the original context.
double yarn_pair(const RopeConfig& rope, int d_head, double rotations) {
    return d_head * std::log(rope.original_max_positions / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(rope.theta));
}

// Pairs below `first` are kept, those above `last` stretched, those between blended.
void scale_yarn(const RopeConfig& rope, int d_head, std::vector<float>& inv_freq) {
    const double first = std::max(std::floor(yarn_pair(rope, d_head, rope.beta_fast)), 0.0);
    double last = std::min(std::ceil(yarn_pair(rope, d_head, rope.beta_slow)), double(d_head - 1));
    if (first == last)
        last += 0.001;
    for (std::size_t i = 0; i < inv_freq.size(); ++i) {
        const float ramp = std::clamp((float(i) - float(first)) / float(last - first), 0.0f, 1.0f);
        const float stretched = inv_freq[i] / float(rope.factor);
        inv_freq[i] = stretched * ramp + inv_freq[i] * (1 - ramp);
    }
}

}  // namespace

const char* name(RopeScaling scaling) {
    switch (scaling) {
        case RopeScaling::None: return "none";
        case RopeScaling::Linear: return "linear";
        case RopeScaling::Llama3: return "llama3";
        case RopeScaling::Yarn: return "yarn";
    }
    return "unknown";
}

double yarn_attention_factor(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

std::vector<float> rope_inv_freq(const RopeConfig& rope, int d_head) {
    CAKE_CHECK(d_head > 0 && d_head % 2 == 0, "d_head is {}", d_head);
    std::vector<float> inv_freq(std::size_t(d_head / 2));
    for (std::size_t i = 0; i < inv_freq.size(); ++i)
        inv_freq[i] = 1.0f / std::pow(float(rope.theta), float(2 * i) / float(d_head));

    if (!rope.divisors.empty()) {
        CAKE_CHECK(rope.divisors.size() == inv_freq.size(), "{} divisors for {} pairs",
                   rope.divisors.size(), inv_freq.size());
        for (std::size_t i = 0; i < inv_freq.size(); ++i)
            inv_freq[i] /= rope.divisors[i];
    }

    switch (rope.scaling) {
        case RopeScaling::None: break;
        case RopeScaling::Linear:
            for (float& w : inv_freq)
                w /= float(rope.factor);
            break;
        case RopeScaling::Llama3:
            if (rope.divisors.empty())
                scale_llama3(rope, inv_freq);
            break;
        case RopeScaling::Yarn: scale_yarn(rope, d_head, inv_freq); break;
    }
    return inv_freq;
}

}  // namespace cake
