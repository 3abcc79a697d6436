#include "model/model.h"

#include <algorithm>
#include <array>

namespace cake {
namespace {

// What is read and copied at a time: bounds the staging memory.
constexpr std::int64_t staging_elements = 4 << 20;

class Loader {
public:
    Loader(Backend& dev, const Checkpoint& checkpoint, const WeightTypes& types)
        : dev_(dev), checkpoint_(checkpoint), types_(types) {}

    Tensor matrix(const Matrix& m) { return read(m.parts, types_.of(m), {m.rows(), m.columns()}); }

    Tensor vector(const std::vector<Part>& parts, DType dtype = DType::F32) {
        return read(parts, dtype, {Matrix{parts}.rows()});
    }
    Tensor bias(const std::vector<Part>& parts) { return vector(parts, dev_.types().activation); }

    // When what was read is where it belongs.
    void finish() {
        for (Stage& stage : stages_)
            dev_.synchronize(stage.stream);
    }

private:
    // Memory that is copied from in a stream of its own.
    struct Stage {
        Stream stream;
        Buffer memory;
    };

    Tensor read(const std::vector<Part>& parts, DType dtype, Shape shape) {
        if (is_quantized(dtype) && checkpoint_.random_matrix(parts[0].name))
            throw usage_error(
                "random weights are f32, bf16 or f16, and {} is {}; set model.dtype to bf16 or f32",
                parts[0].name, name(dtype));
        Tensor out = dev_.tensor(dtype, shape);
        std::int64_t at = 0;
        for (const Part& p : parts) {
            read(p, out.view().rows(at, p.rows.size()));
            at += p.rows.size();
        }
        return out;
    }

    void read(const Part& p, View out) {
        if (const auto random = checkpoint_.random_matrix(p.name))
            return dev_.fill_random({}, *random, p.rows.begin, p.columns.begin, out);
        const std::int64_t width = std::max<std::int64_t>(out.shape().row_elements(), 1);
        const std::int64_t step = std::max<std::int64_t>(staging_elements / width, 1);
        for (std::int64_t r = 0; r < p.rows.size(); r += step) {
            const View to = out.rows(r, std::min(step, p.rows.size() - r));
            Stage& stage = stages_[next_stage_++ % stages_.size()];
            dev_.synchronize(stage.stream);  // what was in it has arrived
            if (stage.memory.bytes() < to.bytes()) {
                stage.memory = {};  // not both at once
                stage.memory = dev_.allocate(to.bytes(), Place::Pinned);
            }
            const View staged(stage.memory.data(), to.dtype(), to.shape());
            checkpoint_.read(p.name, {p.rows.begin + r, p.rows.begin + r + to.dim(0)}, p.columns,
                             staged);
            dev_.copy(stage.stream, to, staged);
        }
    }

    Backend& dev_;
    const Checkpoint& checkpoint_;
    const WeightTypes& types_;
    std::array<Stage, 2> stages_{Stage{Stream{0}, {}}, Stage{Stream{1}, {}}};
    std::size_t next_stage_ = 0;
};

// Every tensor that a model of this configuration must have, with its shape in the file.
struct Expected {
    std::string name;
    Shape shape;
};

std::vector<Expected> expected_tensors(const ModelConfig& c) {
    const std::int64_t d = c.d_model, q = std::int64_t(c.n_heads) * c.d_head,
                       kv = std::int64_t(c.n_kv_heads) * c.d_head;
    std::vector<Expected> out{{"model.embed_tokens.weight", {c.vocab, d}},
                              {"model.norm.weight", {d}}};
    if (!c.tied_head)
        out.push_back({"lm_head.weight", {c.vocab, d}});
    for (int l = 0; l < c.n_layers; ++l) {
        const std::string p = fmt::format("model.layers.{}.", l);
        out.push_back({p + "input_layernorm.weight", {d}});
        out.push_back({p + "post_attention_layernorm.weight", {d}});
        out.push_back({p + "self_attn.q_proj.weight", {q, d}});
        out.push_back({p + "self_attn.k_proj.weight", {kv, d}});
        out.push_back({p + "self_attn.v_proj.weight", {kv, d}});
        out.push_back({p + "self_attn.o_proj.weight", {d, q}});
        out.push_back({p + "mlp.gate_proj.weight", {c.d_ff, d}});
        out.push_back({p + "mlp.up_proj.weight", {c.d_ff, d}});
        out.push_back({p + "mlp.down_proj.weight", {d, c.d_ff}});
        if (c.qkv_bias) {
            out.push_back({p + "self_attn.q_proj.bias", {q}});
            out.push_back({p + "self_attn.k_proj.bias", {kv}});
            out.push_back({p + "self_attn.v_proj.bias", {kv}});
        }
    }
    return out;
}

LayerWeights load_layer(Loader& load, const ModelConfig& c, const Shard& s, int l) {
    const std::string p = fmt::format("model.layers.{}.", l);
    const Range all{0, c.d_model}, one{0, 1};
    const LayerMatrices m = layer_matrices(c, s, l);

    LayerWeights w;
    w.attn_norm = load.vector({{p + "input_layernorm.weight", all, one}});
    w.qkv = load.matrix(m.qkv);
    if (c.qkv_bias)
        w.qkv_bias = load.bias({{p + "self_attn.q_proj.bias", m.qkv.parts[0].rows, one},
                                {p + "self_attn.k_proj.bias", m.qkv.parts[1].rows, one},
                                {p + "self_attn.v_proj.bias", m.qkv.parts[2].rows, one}});
    w.out = load.matrix(m.out);
    w.mlp_norm = load.vector({{p + "post_attention_layernorm.weight", all, one}});
    w.gate_up = load.matrix(m.gate_up);
    w.down = load.matrix(m.down);
    return w;
}

}  // namespace

Checkpoint random_checkpoint(const ModelConfig& config, std::uint64_t seed) {
    std::vector<TensorInfo> tensors;
    for (const Expected& e : expected_tensors(config))
        tensors.push_back({e.name, config.dtype, e.shape,
                           bytes_of(config.dtype, e.shape.elements()), "random weights",
                           std::string(name(config.dtype))});
    return Checkpoint::random(std::move(tensors), seed);
}

void check_tensors(const Checkpoint& checkpoint, const ModelConfig& config) {
    for (const Expected& e : expected_tensors(config)) {
        const TensorInfo* found = checkpoint.find(e.name);
        if (!found)
            throw usage_error("{}: tensor {} is missing; is this the whole model?",
                              checkpoint.path(), e.name);
        if (!(found->shape == e.shape))
            throw usage_error("{}: tensor {} is {}, the configuration says {}", found->file, e.name,
                              found->shape.str(), e.shape.str());
    }
}

std::size_t Model::weight_bytes() const {
    std::size_t sum = embedding.bytes() + final_norm.bytes() + head.bytes() + inv_freq.bytes();
    for (const LayerWeights& w : layers)
        sum += w.attn_norm.bytes() + w.qkv.bytes() + w.qkv_bias.bytes() + w.out.bytes() +
               w.mlp_norm.bytes() + w.gate_up.bytes() + w.down.bytes();
    return sum;
}

std::size_t model_bytes(const ModelConfig& c, const Shard& s, const WeightTypes& types,
                        DType activation) {
    std::size_t sum = types.bytes_of(embedding_matrix(c, s));
    if (const auto head = head_matrix(c, s))
        sum += types.bytes_of(*head);
    for (int l = 0; l < c.n_layers; ++l) {
        const LayerMatrices m = layer_matrices(c, s, l);
        for (const Matrix* matrix : {&m.qkv, &m.out, &m.gate_up, &m.down})
            sum += types.bytes_of(*matrix);
    }
    const std::int64_t qkv_rows = std::int64_t(s.n_q() + 2 * s.n_kv()) * c.d_head;
    if (c.qkv_bias)
        sum += std::size_t(c.n_layers) * bytes_of(activation, qkv_rows);
    const std::int64_t norms = (2 * std::int64_t(c.n_layers) + 1) * c.d_model;
    return sum + bytes_of(DType::F32, norms + c.d_head / 2);
}

Model load_model(Backend& dev, const Checkpoint& checkpoint, const ModelConfig& config,
                 const Shard& shard, const WeightTypes& types,
                 const std::function<void(int)>& progress) {
    check_tensors(checkpoint, config);
    Loader load(dev, checkpoint, types);
    const Range all{0, config.d_model};

    Model m;
    m.config = config;
    m.shard = shard;
    m.embedding = load.matrix(embedding_matrix(config, shard));
    m.final_norm = load.vector({{"model.norm.weight", all, {0, 1}}});
    if (const auto head = head_matrix(config, shard))
        m.head = load.matrix(*head);
    std::vector<float> inv_freq = rope_inv_freq(config.rope, config.d_head);
    const Shape pairs{std::int64_t(inv_freq.size())};
    m.inv_freq = dev.tensor(DType::F32, pairs);
    dev.copy({}, m.inv_freq, View(inv_freq.data(), DType::F32, pairs));
    dev.synchronize({});
    for (int l = 0; l < config.n_layers; ++l) {
        m.layers.push_back(load_layer(load, config, shard, l));
        if (progress)
            progress(l + 1);
    }
    load.finish();
    return m;
}

}  // namespace cake
