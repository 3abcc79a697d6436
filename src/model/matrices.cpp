#include "model/matrices.h"

#include <algorithm>
#include <map>

namespace cake {
namespace {

Range scaled(Range r, std::int64_t by) { return {r.begin * by, r.end * by}; }

}  // namespace

std::int64_t Matrix::rows() const {
    std::int64_t n = 0;
    for (const Part& part : parts)
        n += part.rows.size();
    return n;
}

LayerMatrices layer_matrices(const ModelConfig& c, const Shard& s, int layer) {
    const std::string p = fmt::format("model.layers.{}.", layer);
    const Range all{0, c.d_model};
    const Range q = scaled(s.q_heads, c.d_head), kv = scaled(s.kv_heads, c.d_head);
    return {.qkv = {{{p + "self_attn.q_proj.weight", q, all},
                     {p + "self_attn.k_proj.weight", kv, all},
                     {p + "self_attn.v_proj.weight", kv, all}}},
            .out = {{{p + "self_attn.o_proj.weight", all, q}}},
            .gate_up = {{{p + "mlp.gate_proj.weight", s.ff, all},
                         {p + "mlp.up_proj.weight", s.ff, all}}},
            .down = {{{p + "mlp.down_proj.weight", all, s.ff}}}};
}

Matrix embedding_matrix(const ModelConfig& c, const Shard& s) {
    return {{{"model.embed_tokens.weight", s.vocab, {0, c.d_model}}}};
}

std::optional<Matrix> head_matrix(const ModelConfig& c, const Shard& s) {
    if (c.tied_head)
        return {};
    return Matrix{{{"lm_head.weight", s.vocab, {0, c.d_model}}}};
}

WeightTypes WeightTypes::as_stored(const Checkpoint& checkpoint) {
    WeightTypes out;
    std::map<DType, std::size_t> bytes;
    for (const TensorInfo& tensor : checkpoint.tensors())
        if (tensor.shape.rank() == 2 && is_weight_type(tensor.dtype)) {
            out.stored_.emplace(tensor.name, tensor.dtype);
            bytes[tensor.dtype] += tensor.bytes;
        }
    if (bytes.empty())
        return out;
    out.main_ = std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) {
                    return a.second < b.second;
                })->first;
    out.all_.reset();
    if (bytes.size() == 1)
        out.all_ = out.main_;
    return out;
}

DType WeightTypes::of(const Matrix& matrix) const {
    if (stored_.empty())
        return main_;
    const auto type_of = [&](const Part& part) {
        const auto found = stored_.find(part.name);
        return found == stored_.end() ? DType::F32 : found->second;
    };
    const DType first = type_of(matrix.parts[0]);
    bool alike = true, exact = false;
    for (const Part& part : matrix.parts) {
        const DType type = type_of(part);
        const int block = traits(type).block_elements;
        alike &= type == first && part.columns.begin % block == 0 && part.columns.end % block == 0;
        exact |= type == DType::F32;
    }
    if (alike)
        return first;
    return exact ? DType::F32 : DType::BF16;
}

std::size_t WeightTypes::bytes_of(const Matrix& matrix) const {
    return cake::bytes_of(of(matrix), matrix.rows() * matrix.columns());
}

WeightTypes requested_types(const ModelConfig& config, const std::string& requested,
                            const std::string& path, std::optional<DType> only) {
    if (only && requested != "auto" && requested != name(*only))
        throw usage_error("model.dtype is {}, and this backend multiplies by {}: leave it at auto",
                          requested, name(*only));
    if (only)
        return *only;
    if (requested == "f32")
        return DType::F32;
    if (requested == "bf16")
        return DType::BF16;
    if (requested != "auto")
        throw usage_error("model.dtype {} is not supported on this backend: auto, f32 or bf16",
                          requested);
    return has_weights(path) ? WeightTypes::as_stored(Checkpoint::open(path))
                             : WeightTypes(config.dtype);
}

}  // namespace cake
