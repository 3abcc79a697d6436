// config.json of Hugging Face models: the keys of transformers' LlamaConfig, MistralConfig and
// Qwen2Config, with their defaults where older files leave a key out. What would change the
// computation and is not implemented is refused.
#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "config/json_keys.h"
#include "config/model_config.h"
#include "config/model_limits.h"
#include "io/file_error.h"

namespace cake {
namespace {

using nlohmann::json;

constexpr const char* supported_architectures =
    "supported are LlamaForCausalLM, MistralForCausalLM and Qwen2ForCausalLM";

std::string read_architecture(const JsonKeys& keys, const std::string& file) {
    std::string found;
    const json* list = keys.find("architectures");
    if (list && list->is_array() && !list->empty() && list->front().is_string()) {
        found = list->front().get<std::string>();
        if (found == "LlamaForCausalLM")
            return "llama";
        if (found == "MistralForCausalLM")
            return "mistral";
        if (found == "Qwen2ForCausalLM")
            return "qwen2";
    } else if (list) {
        keys.refuse("architectures", supported_architectures);
    } else {
        // Files that people write by hand have only this.
        const auto type = keys.string("model_type");
        if (type == "llama" || type == "mistral" || type == "qwen2")
            return *type;
        if (!type)
            throw usage_error("{}: neither architectures nor model_type is there; {}", file,
                              supported_architectures);
        found = *type;
    }
    throw usage_error("{}: architecture {} is not supported; {}", file, quote(found),
                      supported_architectures);
}

DType read_dtype(const JsonKeys& keys) {
    const char* key =
        keys.has("torch_dtype") ? "torch_dtype" : "dtype";  // transformers renamed it in 4.56
    const auto text = keys.string(key);
    if (!text || text == "float32")
        return DType::F32;
    if (text == "bfloat16")
        return DType::BF16;
    if (text == "float16")
        return DType::F16;
    keys.refuse(key, "supported are float32, bfloat16 and float16");
}

void read_yarn(const JsonKeys& keys, ModelConfig& config) {
    RopeConfig& rope = config.rope;
    // As transformers does: 0 and null stand for the default.
    const auto value_or = [&](const char* key, double fallback) {
        if (keys.number(key, 0, 1e6).value_or(0) == 0)
            return fallback;
        return *keys.number(key, 1e-3, 1e6);
    };
    rope.beta_fast = value_or("beta_fast", 32);
    rope.beta_slow = value_or("beta_slow", 1);
    if (keys.boolean("truncate") == false)
        keys.refuse("truncate", "only true is supported");

    const double mscale = value_or("mscale", 0);
    const double mscale_all_dim = value_or("mscale_all_dim", 0);
    if (const auto explicit_factor = keys.number("attention_factor", 1e-3, 1e3))
        rope.attention_factor = *explicit_factor;
    else if (mscale != 0 && mscale_all_dim != 0)
        rope.attention_factor = yarn_attention_factor(rope.factor, mscale) /
                                yarn_attention_factor(rope.factor, mscale_all_dim);
    else
        rope.attention_factor = yarn_attention_factor(rope.factor);
}

void read_llama3(const JsonKeys& keys, ModelConfig& config) {
    RopeConfig& rope = config.rope;
    for (const char* key :
         {"original_max_position_embeddings", "low_freq_factor", "high_freq_factor"})
        if (!keys.has(key))
            keys.refuse(key, "the llama3 rule needs it");
    rope.low_freq_factor = *keys.number("low_freq_factor", 1e-3, 1e6);
    rope.high_freq_factor = *keys.number("high_freq_factor", 1e-3, 1e6);
    if (rope.high_freq_factor <= rope.low_freq_factor)
        keys.refuse("high_freq_factor",
                    fmt::format("more than low_freq_factor ({}) is allowed", rope.low_freq_factor));
}

// `keys`: of the object rope_scaling (transformers 5 calls it rope_parameters).
void read_rope_scaling(const JsonKeys& keys, ModelConfig& config) {
    const char* type_key =
        keys.has("rope_type") ? "rope_type" : "type";  // the second one in older files
    const std::string type = keys.string(type_key).value_or("");
    if (type == "default")
        return;

    RopeConfig& rope = config.rope;
    if (type == "linear")
        rope.scaling = RopeScaling::Linear;
    else if (type == "llama3")
        rope.scaling = RopeScaling::Llama3;
    else if (type == "yarn")
        rope.scaling = RopeScaling::Yarn;
    else
        keys.refuse(type_key, "supported are default, linear, llama3 and yarn");

    if (!keys.has("factor"))
        keys.refuse("factor", fmt::format("the {} rule needs it", type));
    rope.factor = *keys.number("factor", 1, ModelLimits::rope_factor);
    rope.original_max_positions =
        int(keys.integer("original_max_position_embeddings", 1, ModelLimits::positions)
                .value_or(config.max_positions));
    if (rope.scaling == RopeScaling::Llama3)
        read_llama3(keys, config);
    if (rope.scaling == RopeScaling::Yarn)
        read_yarn(keys, config);
}

void read_rope(const JsonKeys& keys, const std::string& file, ModelConfig& config) {
    const std::string key = keys.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
    const json none = json::object();
    const json* found = keys.find(key);
    const JsonKeys scaling(found ? *found : none, file, key + ".");

    const JsonKeys& theta_owner = keys.has("rope_theta") ? keys : scaling;
    config.rope.theta =
        theta_owner.number("rope_theta", ModelLimits::least_rope_theta, ModelLimits::rope_theta)
            .value_or(10000);
    if (keys.number("partial_rotary_factor", 0, 1).value_or(1) != 1)
        keys.refuse("partial_rotary_factor", "only 1 is supported: heads that turn as a whole");
    if (found && (scaling.has("rope_type") || scaling.has("type")))
        read_rope_scaling(scaling, config);
}

// Layers must attend alike: all to everything, or all to the same window.
int read_sliding_window(const JsonKeys& keys, const ModelConfig& config) {
    if (config.architecture == "llama")
        return 0;  // LlamaConfig has none
    int window = int(keys.integer("sliding_window", 1, ModelLimits::positions).value_or(0));
    if (config.architecture == "qwen2") {
        if (!keys.boolean("use_sliding_window").value_or(false))
            return 0;
        const auto full_layers = keys.integer("max_window_layers", 0, 1 << 20).value_or(28);
        if (full_layers >= config.n_layers)
            return 0;
        if (window != 0 && full_layers > 0)
            keys.refuse("max_window_layers",
                        "models whose layers differ in their attention are not supported");
    }
    if (const json* types = keys.find("layer_types"); types && types->is_array()) {
        const auto count = [&](const char* type) {
            return std::count(types->begin(), types->end(), json(type));
        };
        if (count("full_attention") == std::ptrdiff_t(types->size()))
            return 0;
        if (count("sliding_attention") != std::ptrdiff_t(types->size()))
            keys.refuse(
                "layer_types",
                "supported are full_attention in all layers or sliding_attention in all layers");
    }
    return window;
}

void read_sizes(const JsonKeys& keys, ModelConfig& config) {
    config.n_layers = int(keys.required_integer("num_hidden_layers", 1, ModelLimits::layers));
    config.d_model = int(keys.required_integer("hidden_size", 1, ModelLimits::width));
    config.n_heads = int(keys.required_integer("num_attention_heads", 1, ModelLimits::heads));
    config.n_kv_heads =
        int(keys.integer("num_key_value_heads", 1, ModelLimits::heads).value_or(config.n_heads));
    config.d_ff = int(keys.required_integer("intermediate_size", 1, ModelLimits::d_ff));
    config.vocab = int(keys.required_integer("vocab_size", 1, ModelLimits::vocab));
    config.max_positions =
        int(keys.required_integer("max_position_embeddings", 1, ModelLimits::positions));
    config.rms_eps = float(keys.number("rms_norm_eps", 0, 1).value_or(1e-6));
    if (const auto d_head = keys.integer("head_dim", 1, ModelLimits::width)) {
        config.d_head = int(*d_head);
    } else {
        if (config.d_model % config.n_heads != 0)
            keys.refuse(
                "hidden_size",
                fmt::format("without head_dim it has to be a multiple of num_attention_heads ({})",
                            config.n_heads));
        config.d_head = config.d_model / config.n_heads;
    }
}

// Keys whose usual value alone is implemented.
void refuse_variants(const JsonKeys& keys) {
    const auto activation = keys.string("hidden_act").value_or("silu");
    if (activation != "silu" && activation != "swish")
        keys.refuse("hidden_act", "supported is silu");
    for (const char* key : {"attention_bias", "mlp_bias"})
        if (keys.boolean(key).value_or(false))
            keys.refuse(key, "only false is supported");
    if (keys.has("quantization_config"))
        keys.refuse("quantization_config",
                    "quantised Hugging Face folders are not supported: take the model in bfloat16, "
                    "or a .gguf file");
}

}  // namespace

ModelConfig model_config_from_json(const json& object, const std::string& file,
                                   const std::string& name) {
    const JsonKeys keys(object, file);
    ModelConfig config;
    config.architecture = read_architecture(keys, file);
    refuse_variants(keys);
    read_sizes(keys, config);
    read_rope(keys, file, config);
    config.sliding_window = read_sliding_window(keys, config);
    config.dtype = read_dtype(keys);
    config.qkv_bias = config.architecture == "qwen2";
    config.tied_head = keys.boolean("tie_word_embeddings").value_or(false);

    // "meta-llama/Llama-2-7b-chat-hf", or where the model lay when it was saved.
    const std::string origin = keys.string("_name_or_path").value_or("");
    config.name = std::filesystem::path(origin).filename().string();
    if (config.name.empty())
        config.name = name;

    finish_model_config(config, file);
    return config;
}

}  // namespace cake
