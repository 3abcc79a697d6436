// Metadata of GGUF files: the keys that llama.cpp's converter writes, "llama.block_count" and so on
// under the name of the architecture. Mistral models are of architecture llama.
#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "base/error.h"
#include "config/model_config.h"
#include "config/model_limits.h"
#include "io/file_error.h"
#include "io/gguf.h"

namespace cake {
namespace {

class GgufKeys {
public:
    GgufKeys(const GgufFile& gguf, const std::string& architecture)
        : gguf_(gguf), file_(gguf.file().path()), prefix_(architecture + ".") {}

    std::optional<std::int64_t> integer(const std::string& key, std::int64_t least,
                                        std::int64_t most) const {
        const auto value = gguf_.integer(prefix_ + key);
        if (value && (*value < least || *value > most))
            throw usage_error("{}: {}{} is {}; a number from {} to {} is allowed", file_, prefix_,
                              key, *value, least, most);
        return value;
    }

    std::int64_t required_integer(const std::string& key, std::int64_t least,
                                  std::int64_t most) const {
        const auto value = integer(key, least, most);
        if (!value)
            throw usage_error("{}: {}{} is missing", file_, prefix_, key);
        return *value;
    }

    std::optional<double> number(const std::string& key, double least, double most) const {
        const auto value = gguf_.number(prefix_ + key);
        if (value && !(*value >= least && *value <= most))
            throw usage_error("{}: {}{} is {}; a number from {} to {} is allowed", file_, prefix_,
                              key, *value, least, most);
        return value;
    }

    std::optional<std::string> string(const std::string& key) const {
        return gguf_.string(prefix_ + key);
    }

    template <typename Found>
    [[noreturn]] void refuse(const std::string& key, const Found& found,
                             const std::string& supported) const {
        throw usage_error("{}: {}{} is {}; {}", file_, prefix_, key, found, supported);
    }

private:
    const GgufFile& gguf_;
    const std::string& file_;
    std::string prefix_;
};

// The parts of a split model: metadata are in the first, tensors in all of them.
using Parts = std::span<const GgufFile>;

const GgufTensor* find_tensor(Parts parts, std::string_view name) {
    for (const GgufFile& part : parts)
        for (const GgufTensor& tensor : part.tensors())
            if (tensor.name == name)
                return &tensor;
    return nullptr;
}

std::string read_architecture(const GgufFile& gguf) {
    const auto architecture = gguf.string("general.architecture");
    if (!architecture)
        throw usage_error("{}: general.architecture is missing", gguf.file().path());
    if (architecture != "llama" && architecture != "qwen2")
        throw usage_error("{}: architecture {} is not supported; supported are llama and qwen2",
                          gguf.file().path(), quote(*architecture));
    return *architecture;
}

// The embedding's rows are the truth; the tokenizer may list fewer tokens.
int read_vocab(Parts parts, const GgufKeys& keys) {
    const GgufTensor* embedding = find_tensor(parts, "token_embd.weight");
    if (!embedding)
        return int(keys.required_integer("vocab_size", 1, ModelLimits::vocab));
    const std::int64_t rows = embedding->shape.rank() == 2 ? embedding->shape[0] : 0;
    if (rows < 1 || rows > ModelLimits::vocab)
        throw damaged(parts.front().file().path(), "token_embd.weight has shape {}",
                      embedding->shape.str());
    return int(rows);
}

void read_sizes(Parts parts, const GgufKeys& keys, ModelConfig& config) {
    config.n_layers = int(keys.required_integer("block_count", 1, ModelLimits::layers));
    config.d_model = int(keys.required_integer("embedding_length", 1, ModelLimits::width));
    config.d_ff = int(keys.required_integer("feed_forward_length", 1, ModelLimits::d_ff));
    config.n_heads = int(keys.required_integer("attention.head_count", 1, ModelLimits::heads));
    config.n_kv_heads = int(
        keys.integer("attention.head_count_kv", 1, ModelLimits::heads).value_or(config.n_heads));
    config.max_positions = int(keys.required_integer("context_length", 1, ModelLimits::positions));
    config.vocab = read_vocab(parts, keys);
    config.rms_eps = float(keys.number("attention.layer_norm_rms_epsilon", 0, 1).value_or(1e-5));
    config.sliding_window =
        int(keys.integer("attention.sliding_window", 0, ModelLimits::positions).value_or(0));
    if (const auto experts = keys.integer("expert_count", 0, 1 << 20).value_or(0))
        keys.refuse("expert_count", experts, "models with experts are not supported");

    if (const auto d_head = keys.integer("attention.key_length", 1, ModelLimits::width)) {
        config.d_head = int(*d_head);
    } else {
        if (config.d_model % config.n_heads != 0)
            keys.refuse(
                "embedding_length", config.d_model,
                fmt::format("it has to be a multiple of the {} query heads", config.n_heads));
        config.d_head = config.d_model / config.n_heads;
    }
    const auto d_value =
        keys.integer("attention.value_length", 1, ModelLimits::width).value_or(config.d_head);
    if (d_value != config.d_head)
        keys.refuse("attention.value_length", d_value,
                    fmt::format("as wide as keys ({}) is supported", config.d_head));
    const auto turned =
        keys.integer("rope.dimension_count", 1, ModelLimits::width).value_or(config.d_head);
    if (turned != config.d_head)
        keys.refuse("rope.dimension_count", turned,
                    fmt::format("only whole heads ({}) are supported", config.d_head));
}

// Llama 3.1 and later: what the llama3 rule divides each frequency by, worked out by the converter.
std::vector<float> read_divisors(Parts parts, int d_head) {
    const GgufTensor* tensor = find_tensor(parts, "rope_freqs.weight");
    if (!tensor)
        return {};
    const std::string& file = parts.front().file().path();
    if (tensor->dtype != DType::F32 || tensor->shape.elements() != d_head / 2)
        throw usage_error("{}: rope_freqs.weight holds {} {}; {} f32 are supported", file,
                          tensor->shape.str(), name(tensor->dtype), d_head / 2);
    std::vector<float> divisors(std::size_t(d_head / 2));
    std::memcpy(divisors.data(), tensor->data, divisors.size() * sizeof(float));
    for (float divisor : divisors)
        if (!(divisor > 0 && divisor <= ModelLimits::rope_factor))
            throw damaged(file, "rope_freqs.weight holds {}", divisor);
    return divisors;
}

void read_rope(Parts parts, const GgufKeys& keys, ModelConfig& config) {
    RopeConfig& rope = config.rope;
    rope.theta =
        keys.number("rope.freq_base", ModelLimits::least_rope_theta, ModelLimits::rope_theta)
            .value_or(10000);
    rope.divisors = read_divisors(parts, config.d_head);
    if (!rope.divisors.empty()) {
        rope.scaling = RopeScaling::Llama3;
        rope.factor = *std::max_element(rope.divisors.begin(), rope.divisors.end());
    }

    // Files before 2023-09 have only the first of the two keys.
    const auto legacy_factor = keys.number("rope.scale_linear", 1, ModelLimits::rope_factor);
    const std::string type =
        keys.string("rope.scaling.type").value_or(legacy_factor ? "linear" : "none");
    if (type == "none")
        return;
    if (type == "linear")
        rope.scaling = RopeScaling::Linear;
    else if (type == "yarn")
        rope.scaling = RopeScaling::Yarn;
    else
        keys.refuse("rope.scaling.type", quote(type), "supported are none, linear and yarn");

    rope.factor = keys.number("rope.scaling.factor", 1, ModelLimits::rope_factor)
                      .value_or(legacy_factor.value_or(1));
    rope.original_max_positions =
        int(keys.integer("rope.scaling.original_context_length", 1, ModelLimits::positions)
                .value_or(config.max_positions));
    if (rope.scaling == RopeScaling::Yarn) {
        rope.beta_fast = keys.number("rope.scaling.yarn_beta_fast", 1e-3, 1e6).value_or(32);
        rope.beta_slow = keys.number("rope.scaling.yarn_beta_slow", 1e-3, 1e6).value_or(1);
        // llama.cpp multiplies the derived factor by this one, where transformers replaces it.
        rope.attention_factor = yarn_attention_factor(rope.factor) *
                                keys.number("rope.scaling.attn_factor", 1e-3, 1e3).value_or(1);
    }
}

// The type that holds most of the model's bytes.
DType main_dtype(Parts parts) {
    std::array<std::size_t, 256> bytes{};
    for (const GgufFile& part : parts)
        for (const GgufTensor& tensor : part.tensors())
            bytes[std::size_t(tensor.dtype)] += bytes_of(tensor.dtype, tensor.shape.elements());
    return DType(std::max_element(bytes.begin(), bytes.end()) - bytes.begin());
}

}  // namespace

ModelConfig model_config_from_gguf(Parts parts) {
    const GgufFile& gguf = parts.front();
    const std::string& file = gguf.file().path();
    ModelConfig config;
    config.architecture = read_architecture(gguf);
    const GgufKeys keys(gguf, config.architecture);
    read_sizes(parts, keys, config);
    read_rope(parts, keys, config);
    config.dtype = main_dtype(parts);
    config.qkv_bias = find_tensor(parts, "blk.0.attn_q.bias") != nullptr;
    config.tied_head = find_tensor(parts, "output.weight") == nullptr;
    if (find_tensor(parts, "blk.0.attn_output.bias"))
        throw usage_error("{}: a bias on the output of attention is not supported", file);

    config.name = gguf.string("general.name").value_or("");
    if (config.name.empty())
        config.name = file.substr(file.find_last_of('/') + 1);

    finish_model_config(config, file);
    return config;
}

}  // namespace cake
