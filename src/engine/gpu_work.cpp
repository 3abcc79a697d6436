#include "engine/gpu_work.h"

#include <algorithm>

#include "engine/decode.h"
#include "kernels/cuda/columns.h"
#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/decode_evict.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/select.h"
#include "kernels/cuda/window.h"

namespace cake {
namespace {

// Most slots that a layer of a sequence can have while decoding.
std::int64_t most_slots(const PlanInput& in, const Policy& p) {
    const bool grows = p.decode == DecodeEvict::None;
    std::int64_t most = 0;
    for (const int prompt : critical_prompts(in, p)) {
        const std::int64_t whole = std::int64_t(prompt) + in.new_tokens;
        std::int64_t slots = whole;
        if (p.evicts(prompt)) {
            // A layer may get the shares of all, and one token more by rounding.
            const std::int64_t layers = p.share == Share::Uniform ? 1 : in.model.n_layers;
            const std::int64_t budget = layers * p.prefix_budget() + 1;
            slots = std::min<std::int64_t>(budget, prompt - p.window) + p.window +
                    (grows ? in.new_tokens : 1);
        } else if (!grows) {
            slots = std::min<std::int64_t>(whole, std::max(prompt, p.cache_size) + 1);
        }
        most = std::max(most, slots);
    }
    return most;
}

}  // namespace

GpuWork gpu_work(const PlanInput& in, const Shard& shard) {
    const WorkspaceSize z = workspace_size(in);
    const PageLayout layout = page_layout(in, shard);
    const std::int64_t L = in.model.n_layers, S = in.prompt, batch = in.batch, n_q = shard.n_q(),
                       n_kv = shard.n_kv();
    GpuWork out;
    out.kernels = gpu::gemm_work_bytes;
    const auto needs = [&](std::size_t bytes) { out.kernels = std::max(out.kernels, bytes); };
    if (z.window > 0 && S > z.window)
        needs(gpu::window_scratch_bytes(n_q, z.window, S));
    if (z.columns)
        needs(gpu::column_scratch_bytes(n_q, z.chunk));
    if (z.selects)
        needs(gpu::top_k_scratch_bytes(n_kv, S));
    for (const Policy& p : in.policies) {
        // As wide as tables are (engine/decode.cpp), which is what kernels reckon with.
        const std::int64_t pages = table_width(layout.pages_for(int(most_slots(in, p)))),
                           slots = pages * layout.page_tokens;
        needs(bytes_of(DType::F32, gpu::decode_partial_floats(batch, n_q, in.model.d_head, slots)));
        if (p.decode != DecodeEvict::None)
            needs(gpu::decode_evict_bytes(L * batch * n_kv, slots));
        // Page table, length, budget and two offsets of each layer; a position of each sequence (engine/decode.cpp). What
        // holds them doubles where it grows.
        const std::int64_t tables = 2 * (batch * (L * (4 * pages + 24) + 4) + 6 * 64);
        out.tables = std::max(out.tables, std::size_t(tables + 4 * n_kv * slots));
    }
    const std::int64_t tensors = L * (in.model.qkv_bias ? 7 : 6) + 37;
    out.tables += std::size_t(256 * tensors);
    return out;
}

}  // namespace cake
