#include "support/tiny_files.h"

#include <cmath>
#include <map>
#include <numbers>
#include <random>

#include "io/json_file.h"
#include "support/gguf_writer.h"
#include "support/golden.h"
#include "support/reference_dequant.h"
#include "support/safetensors_writer.h"

namespace cake::test {

using nlohmann::json;

namespace {

std::vector<float> meaning(DType dtype, std::span<const std::byte> stored, std::int64_t n,
                           std::int64_t row_elements) {
    std::vector<float> out;
    for (std::int64_t i = 0; i < n; ++i)
        out.push_back(float(reference_element(
            dtype, stored.data() + bytes_of(dtype, i / row_elements * row_elements),
            i % row_elements)));
    return out;
}

}  // namespace

Weight plain_weight(const std::string& name, Shape shape, std::span<const float> values,
                    DType dtype) {
    ByteWriter stored;
    for (float x : values) {
        if (dtype == DType::BF16)
            stored.put(to_bf16(x));
        else if (dtype == DType::F16)
            stored.put(to_f16(x));
        else
            stored.put(x);
    }
    return {name, shape, dtype, stored.bytes(),
            meaning(dtype, stored.bytes(), shape.elements(), shape.elements())};
}

namespace {

// Blocks of random content whose numbers have the size of weights, so that no softmax is one-hot.
Weight random_weight(const std::string& name, Shape shape, DType dtype, std::mt19937& random) {
    Weight w{name, shape, dtype, random_row(dtype, shape.elements(), random), {}};
    const auto read = [&] {
        w.values = meaning(dtype, w.stored, shape.elements(), shape.row_elements());
    };
    read();
    if (!is_quantized(dtype))
        return w;
    double squares = 0;
    for (float x : w.values)
        squares += double(x) * double(x);
    const float factor = 0.1f / float(std::sqrt(squares / double(w.values.size())));
    std::vector<std::size_t> scales{dtype == DType::Q6_K ? std::size_t(208) : 0};
    for (DType two : {DType::Q4_1, DType::Q5_1, DType::Q4_K, DType::Q5_K})
        if (dtype == two)
            scales.push_back(2);
    for (std::size_t block = 0; block < w.stored.size();
         block += std::size_t(traits(dtype).block_bytes))
        for (std::size_t at : scales) {
            f16 d;
            std::memcpy(&d, w.stored.data() + block + at, sizeof(d));
            d = to_f16(to_float(d) * factor);
            std::memcpy(w.stored.data() + block + at, &d, sizeof(d));
        }
    read();
    return w;
}

}  // namespace

TinyModel golden_tiny(const std::string& name) {
    TinyModel out;
    const std::string folder = golden_model(name);
    out.config = read_json_file(folder + "/config.json");
    const Capture file(folder + "/model.safetensors");
    for (const std::string& tensor : file.names())
        out.weights.push_back(plain_weight(tensor, file.shape(tensor), file.f32(tensor)));
    return out;
}

TinyModel random_tiny(bool qwen2, DType dtype, DType q_dtype) {
    const int d_head = traits(dtype).block_elements == 256 ? 64 : 24, d = 4 * d_head, kv = d / 2;
    std::mt19937 random(7);
    TinyModel out;
    out.config = {{"architectures", {qwen2 ? "Qwen2ForCausalLM" : "LlamaForCausalLM"}},
                  {"model_type", qwen2 ? "qwen2" : "llama"},
                  {"hidden_size", d},
                  {"intermediate_size", d},
                  {"num_hidden_layers", 2},
                  {"num_attention_heads", 4},
                  {"num_key_value_heads", 2},
                  {"vocab_size", 96},
                  {"max_position_embeddings", 256},
                  {"rms_norm_eps", 1e-5},
                  {"rope_theta", 10000.0},
                  {"tie_word_embeddings", qwen2},
                  {"torch_dtype", "float32"}};
    const auto matrix = [&](const std::string& name, int rows) {
        const bool q = name.find("q_proj") != std::string::npos;
        out.weights.push_back(random_weight(name, {rows, d}, q ? q_dtype : dtype, random));
    };
    const auto vector = [&](const std::string& name, int n, float mean) {
        std::normal_distribution<float> normal(mean, 0.1f);
        std::vector<float> values(static_cast<std::size_t>(n));
        for (float& x : values)
            x = normal(random);
        out.weights.push_back(plain_weight(name, {n}, values));
    };
    matrix("model.embed_tokens.weight", 96);
    vector("model.norm.weight", d, 1);
    if (!qwen2)
        matrix("lm_head.weight", 96);
    for (int l = 0; l < 2; ++l) {
        const std::string p = fmt::format("model.layers.{}.", l);
        vector(p + "input_layernorm.weight", d, 1);
        vector(p + "post_attention_layernorm.weight", d, 1);
        for (const auto& [name, rows] :
             std::map<std::string, int>{{"q", d}, {"k", kv}, {"v", kv}}) {
            matrix(p + "self_attn." + name + "_proj.weight", rows);
            if (qwen2)
                vector(p + "self_attn." + name + "_proj.bias", rows, 0);
        }
        for (const char* name :
             {"self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
            matrix(p + name + ".weight", d);
    }
    return out;
}

namespace {

void write_config(const TempFolder& folder, const json& config) {
    folder.write("config.json", config.dump());
}

}  // namespace

std::string write_f32_folder(const TempFolder& folder, const TinyModel& model) {
    write_config(folder, model.config);
    SafetensorsWriter writer;
    for (const Weight& w : model.weights)
        writer.tensor(w.name, w.shape, w.values);
    writer.write(folder.file("model.safetensors"));
    return folder.path();
}

std::string write_shards(const TempFolder& folder, const TinyModel& model, int n) {
    write_config(folder, model.config);
    json map;
    for (int s = 0; s < n; ++s) {
        const std::string file = fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, n);
        SafetensorsWriter writer;
        for (std::size_t i = std::size_t(s); i < model.weights.size(); i += std::size_t(n)) {
            const Weight& w = model.weights[i];
            const char* type = w.dtype == DType::F32    ? "F32"
                               : w.dtype == DType::BF16 ? "BF16"
                                                        : "F16";
            writer.tensor(w.name, type, w.shape, w.stored);
            map[w.name] = file;
        }
        writer.write(folder.file(file));
    }
    folder.write("model.safetensors.index.json", json{{"weight_map", map}}.dump());
    return folder.path();
}

namespace {

std::string gguf_name(std::string name) {
    const auto replace = [&](const std::string& from, const std::string& to) {
        if (const auto at = name.find(from); at != std::string::npos)
            name.replace(at, from.size(), to);
    };
    for (const auto& [from, to] :
         std::vector<std::pair<std::string, std::string>>{{"model.layers.", "blk."},
                                                          {"model.embed_tokens", "token_embd"},
                                                          {"model.norm", "output_norm"},
                                                          {"lm_head", "output"},
                                                          {"input_layernorm", "attn_norm"},
                                                          {"post_attention_layernorm", "ffn_norm"},
                                                          {"self_attn.o_proj", "attn_output"},
                                                          {"self_attn.", "attn_"},
                                                          {"mlp.", "ffn_"},
                                                          {"_proj", ""}})
        replace(from, to);
    return name;
}

// A llama-architecture GGUF holds the rows of a head's pairs side by side: i, i + D/2 -> 2i, 2i + 1.
std::vector<std::byte> interleaved(const Weight& w, std::int64_t heads) {
    const std::int64_t rows = w.shape[0], D = rows / heads;
    const std::size_t row_bytes = w.stored.size() / std::size_t(rows);
    std::vector<std::byte> out(w.stored.size());
    for (std::int64_t row = 0; row < rows; ++row) {
        const std::int64_t in_head = row % D;
        const std::int64_t to =
            row - in_head + (in_head < D / 2 ? 2 * in_head : 2 * (in_head - D / 2) + 1);
        std::memcpy(out.data() + std::size_t(to) * row_bytes,
                    w.stored.data() + std::size_t(row) * row_bytes, row_bytes);
    }
    return out;
}

// What the llama3 rule divides a frequency by, from its description (tests/golden/README.md).
float llama3_divisor(const json& scaling, double wavelength) {
    const double factor = scaling["factor"], low = scaling["low_freq_factor"],
                 high = scaling["high_freq_factor"],
                 original = scaling["original_max_position_embeddings"];
    if (wavelength < original / high)
        return 1;
    if (wavelength > original / low)
        return float(factor);
    const double s = (original / wavelength - low) / (high - low);
    return float(1 / ((1 - s) / factor + s));
}

void write_rope(GgufWriter& writer, const std::string& prefix, const json& config) {
    const double theta = config["rope_theta"];
    writer.number(prefix + "rope.freq_base", float(theta));
    const json scaling = config.value("rope_scaling", json());
    if (scaling.is_null())
        return;
    const std::string type = scaling.value("rope_type", scaling.value("type", ""));
    if (type == "llama3") {
        const int d_head =
            config["hidden_size"].get<int>() / config["num_attention_heads"].get<int>();
        std::vector<float> divisors;
        for (int i = 0; i < d_head / 2; ++i)
            divisors.push_back(llama3_divisor(
                scaling, 2 * std::numbers::pi * std::pow(theta, 2.0 * i / double(d_head))));
        writer.tensor("rope_freqs.weight", Shape{d_head / 2}, divisors);
        return;
    }
    writer.string(prefix + "rope.scaling.type", type);
    writer.number(prefix + "rope.scaling.factor", scaling["factor"]);
    if (type == "yarn")
        writer.integer(prefix + "rope.scaling.original_context_length",
                       scaling["original_max_position_embeddings"]);
}

}  // namespace

std::string write_gguf(const TempFolder& folder, const TinyModel& model, int parts) {
    const json& c = model.config;
    const bool is_qwen2 = c["model_type"] == "qwen2";
    const std::string architecture = is_qwen2 ? "qwen2" : "llama", prefix = architecture + ".";
    std::string first;
    for (int part = 0; part < parts; ++part) {
        GgufWriter writer;
        if (parts > 1) {
            const auto u16 = [&](const char* key, int value) {
                writer.raw(key, 2, ByteWriter().put(std::uint16_t(value)).bytes());
            };
            u16("split.no", part);
            u16("split.count", parts);
        }
        if (part == 0) {
            writer.string("general.architecture", architecture);
            for (const auto& [key, from] : std::map<std::string, std::string>{
                     {"block_count", "num_hidden_layers"},
                     {"embedding_length", "hidden_size"},
                     {"feed_forward_length", "intermediate_size"},
                     {"context_length", "max_position_embeddings"},
                     {"attention.head_count", "num_attention_heads"},
                     {"attention.head_count_kv", "num_key_value_heads"},
                     {"vocab_size", "vocab_size"}})
                writer.integer(prefix + key, c[from]);
            writer.number(prefix + "attention.layer_norm_rms_epsilon", c["rms_norm_eps"]);
            write_rope(writer, prefix, c);
        }
        for (std::size_t i = 0; i < model.weights.size(); ++i) {
            if (parts > 1 && int(i) % (parts - 1) + 1 != part)
                continue;
            const Weight& w = model.weights[i];
            const std::string name = gguf_name(w.name);
            const bool q = name.find("attn_q.") != std::string::npos,
                       k = name.find("attn_k.") != std::string::npos;
            const std::int64_t heads = c[q ? "num_attention_heads" : "num_key_value_heads"];
            writer.tensor(name, w.dtype, w.shape,
                          (q || k) && !is_qwen2 ? interleaved(w, heads) : w.stored);
        }
        const std::string path = folder.file(
            parts > 1 ? fmt::format("m-{:05}-of-{:05}.gguf", part + 1, parts) : "m.gguf");
        writer.write(path);
        if (part == 0)
            first = path;
    }
    return first;
}

}  // namespace cake::test
