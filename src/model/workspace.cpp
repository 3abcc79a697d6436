#include "model/workspace.h"

#include <algorithm>

namespace cake {
namespace {

struct Row {
    Tensor Workspace::*tensor;
    std::size_t WorkspaceBytes::*part;
    DType dtype;
    Shape shape;
    Place place = Place::Device;
};

std::vector<Row> table(const ModelConfig& m, const Shard& s, const WorkspaceSize& z) {
    using W = Workspace;
    using B = WorkspaceBytes;
    const std::int64_t chunk = std::min(z.chunk, z.prompt);
    const std::int64_t n = std::max<std::int64_t>(chunk, z.batch),
                       m_rows = std::min<std::int64_t>(n, mlp_rows);
    const std::int64_t S = z.prompt, d = m.d_head, n_q = s.n_q(), n_kv = s.n_kv(), ff = s.ff.size();
    const std::int64_t seen = z.window > 0 ? S : 0;
    const std::int64_t summed = z.columns ? S : 0;
    const std::int64_t scored = z.selects ? S : 0;
    const DType f = DType::F32, act = z.activation_dtype;
    return {
        {&W::x, &B::residual, z.residual_dtype, {S, m.d_model}},
        {&W::decode_x, &B::residual, z.residual_dtype, {z.batch, m.d_model}},
        {&W::normed, &B::other, act, {n, m.d_model}},
        {&W::qkv, &B::other, act, {n, (n_q + 2 * n_kv) * d}},
        {&W::q, &B::other, act, {n, n_q, d}},
        {&W::attn, &B::other, act, {n, n_q * d}},
        {&W::delta, &B::other, z.residual_dtype, {n, m.d_model}},
        {&W::other_delta, &B::other, z.residual_dtype, {z.overlap ? chunk : 0, m.d_model}},
        {&W::gate_up, &B::other, act, {m_rows, 2 * ff}},
        {&W::act, &B::other, act, {m_rows, ff}},
        {&W::k, &B::uncut_layer, z.cache_dtype, {n_kv, S, d}},
        {&W::v, &B::uncut_layer, z.cache_dtype, {n_kv, S, d}},
        {&W::q_window, &B::other, act, {z.window, n_q, d}},
        {&W::mean, &B::other, f, {n_q, seen}},
        {&W::variance, &B::other, f, {n_q, seen}},
        {&W::head_scores, &B::other, f, {n_q, seen}},
        {&W::column_sums, &B::other, f, {n_q, summed}},
        {&W::running, &B::other, f, {n_kv, summed}},
        {&W::group_scores, &B::other, f, {s.shares_kv() ? m.group() : 0, std::max(seen, summed)}},
        {&W::scores, &B::other, f, {n_kv, scored}},
        {&W::keep, &B::other, DType::I32, {n_kv, scored}},
        {&W::sums, &B::other, DType::F64, {2}},
        {&W::ids, &B::other, DType::I32, {std::max<std::int64_t>(n, S)}},
        {&W::draws, &B::logits, DType::F64, {z.batch, 5}},
        {&W::logits, &B::logits, f, {z.batch, s.vocab.size()}},
        {&W::all_logits, &B::logits, f, {std::int64_t(z.batch) * m.vocab}},
        {&W::host_logits, nullptr, f, {std::int64_t(z.batch) * m.vocab}, Place::Pinned},
        {&W::probs, &B::other, f, {n_q, seen + summed > 0 ? z.decode_rows : 0}},
        {&W::decode_scores, &B::other, f, {n_kv, z.decode_rows}},
    };
}

}  // namespace

std::int64_t rows_of_part(std::int64_t n, std::int64_t most, bool in_pairs) {
    constexpr std::int64_t tile = 128, least = 1024;
    std::int64_t parts = (n + most - 1) / most;
    if (in_pairs && parts % 2 == 1 && n >= (parts + 1) * least)
        ++parts;
    if (parts <= 1)
        return n;
    const std::int64_t rows = (n + parts - 1) / parts;
    return std::min(most, (rows + tile - 1) / tile * tile);
}

Workspace::Workspace(Backend& dev, const ModelConfig& model, const Shard& shard,
                     const WorkspaceSize& z)
    : size(z) {
    for (const Row& row : table(model, shard, z))
        this->*row.tensor = dev.tensor(row.dtype, row.shape, row.place);
}

WorkspaceBytes workspace_bytes(const ModelConfig& model, const Shard& shard,
                               const WorkspaceSize& size) {
    WorkspaceBytes out;
    for (const Row& row : table(model, shard, size))
        if (row.place == Place::Device)
            out.*row.part += bytes_of(row.dtype, row.shape.elements());
    return out;
}

}  // namespace cake
