#include "engine/gpu_work.h"

#include <algorithm>

#include "kernels/cuda/device.h"

namespace cake {
namespace {

std::int64_t parts(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

// Most slots that a layer of a sequence can have while decoding, in whole pages.
std::int64_t most_slots(const PlanInput& in, const Policy& p) {
    const std::int64_t whole = std::int64_t(in.prompt) + in.new_tokens;
    const bool grows = p.decode == DecodeEvict::None;
    std::int64_t slots = whole;
    if (p.evicts(in.prompt)) {
        const std::int64_t shares = p.cascade && p.share == Share::Preference
                                        ? std::int64_t(in.model.n_layers) * p.prefix_budget()
                                        : p.prefix_budget();
        slots = std::min(whole, shares + p.window + 1 + (grows ? in.new_tokens : 0));
    }
    const std::int64_t page = page_tokens(in);
    return parts(slots, page) * page;
}

// kernels/cuda/window.cu: WindowScratch.
std::int64_t window_bytes(const PlanInput& in, std::int64_t n_q, std::int64_t window) {
    constexpr std::int64_t span_keys = 512, slices = 2;
    if (window == 0 || in.prompt <= window)
        return 0;
    const std::int64_t rows = n_q * window;
    return rows * (parts(in.prompt, span_keys) * slices * 12 + 8) +
           n_q * parts(in.prompt - window, span_keys) * slices * 16;
}

// kernels/cuda/decode_attention.cu: decode_partial_floats; decode_evict.cu: decode_evict_bytes. They share the memory.
std::int64_t decode_bytes(const PlanInput& in, const Shard& shard, const Policy& p) {
    constexpr std::int64_t split = 256, in_shared_memory = 48 * 1024 - 512, at_once = 128;
    const std::int64_t slots = most_slots(in, p);
    const std::int64_t attention =
        4 * in.batch * shard.n_q() * parts(slots, split) * (in.model.d_head + 2);
    const std::int64_t a_head = parts(12 * slots, 16) * 16;
    const std::int64_t heads = std::int64_t(in.model.n_layers) * in.batch * shard.n_kv();
    const bool evicts = p.decode != DecodeEvict::None && a_head > in_shared_memory;
    return std::max(attention, evicts ? std::min(heads, at_once) * a_head : 0);
}

}  // namespace

std::size_t gpu_work_bytes(const PlanInput& in, const Shard& shard) {
    const WorkspaceSize z = workspace_size(in);
    const std::int64_t L = in.model.n_layers;
    std::int64_t decode = 0, tables = 0;
    for (const Policy& p : in.policies) {
        decode = std::max(decode, decode_bytes(in, shard, p));
        // A page table, lengths, budgets, offsets of two kinds of rows.
        tables = std::max(tables, L * in.batch * (most_slots(in, p) / page_tokens(in) * 4 + 24));
    }
    const std::int64_t column_sums = z.columns ? 8 * shard.n_q() * z.chunk : 0;
    const std::int64_t tensors = 256 * (7 * L + 40);
    return gpu::gemm_work_bytes + std::size_t(window_bytes(in, shard.n_q(), z.window) +
                                              column_sums + decode + tables + tensors);
}

}  // namespace cake
