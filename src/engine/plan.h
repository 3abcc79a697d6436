// Bytes and messages of a run, computed before anything is loaded. The engine allocates by the same functions, so the
// plan is what a run takes.
#pragma once

#include <vector>

#include <nlohmann/json.hpp>

#include "kernels/kv_pages.h"
#include "model/model.h"
#include "model/workspace.h"
#include "policy/policy.h"

namespace cake {

struct PlanInput {
    ModelConfig model;
    std::vector<Policy> policies;  // all served by one prefill, each with its own cache
    int ranks = 1;
    int prompt = 1;        // tokens
    bool shorter = false;  // prompts of fewer tokens come too: the plan is for any of them
    int new_tokens = 0;
    int batch = 1;  // sequences that are held at the same time
    std::size_t kv_bytes =
        0;             // of a rank's pool of pages; 0: what `batch` of the largest sequences need
    int chunk = 2048;  // tokens
    int page_tokens = 0;  // 0: auto
    WeightTypes weights;
    DType cache = DType::F32;
    DType activation = DType::F32;
    DType residual = DType::F32;  // of the residual stream and the block's all-reduces
    bool gpu = false;             // kernels take memory beside what they are given
    // The block's all-reduces can be made beside computing: those of NCCL can, what passes through the host cannot.
    bool overlap = false;
    // Each token is the likeliest one: ranks exchange those of their parts of the vocabulary in place of logits.
    bool greedy = true;
};

// What a configuration asks for, "auto" resolved for a backend that computes in `types`: weights are as the files at model.path
// have them, or of the one type that it takes; the cache is bf16, or f32 with f32 weights; the residual stream is
// activations.
PlanInput plan_input(const RunConfig& config, const ModelConfig& model, int ranks, int prompt,
                     int new_tokens, const ComputeTypes& types = {});

// The configuration with every "auto" and every cell of the policy as the plan has it: what a report records.
// model.dtype stays auto where no value of it says what the weights are.
RunConfig resolved_config(RunConfig config, const PlanInput& plan);

// auto: 64 tokens, or 16 where a layer keeps fewer than 512 on average.
int page_tokens(const PlanInput& input);
PageLayout page_layout(const PlanInput& input, const Shard& shard);
WorkspaceSize workspace_size(const PlanInput& input);
// Prompts of which one needs most: a prompt that just stays whole may need more than a longer one, which is cut.
std::vector<int> critical_prompts(const PlanInput& input, const Policy& policy);

// Most pages that one sequence of `prompt` + `new_tokens` tokens holds at any time under the policy, prefill and its
// stages, the hole of each layer while decoding and the rounding to pages included.
std::int64_t pages_needed(const Policy& policy, int n_layers, int prompt, int new_tokens,
                          const PageLayout& layout);

// What a process takes on the host beside what is planned: code, libraries, MPI, tokenizer, stacks. Measured with the CPU
// backend: 14 MiB alone, 24 to 28 as one of 2 to 4 ranks, 32 with the tokenizer of SmolLM2.
inline constexpr std::size_t process_bytes = std::size_t(32) << 20;
// What CUDA's libraries take of a GPU beside what is planned, once a run is under way: kernels of cuBLASLt and cuDNN, which are
// loaded when they are first used (256 MiB, assumed); and, where NCCL connects ranks (`overlap`), its buffers for each stream that
// they speak in, and once more where some share a KV head (768 MiB; others have measured 544 MiB on two A100 and 688 MiB on
// four: github.com/NVIDIA/nccl, issue 964), and deltas in memory that the GPUs of all ranks reach (comm/nccl.h).
std::size_t gpu_library_bytes(const PlanInput& input);

struct RankPlan {
    Shard shard;
    std::size_t weights = 0;
    std::size_t residual = 0;     // [S, d_model]
    std::size_t uncut_layer = 0;  // K and V of one whole layer
    std::size_t kept_cache = 0;   // all pages of the pool
    std::size_t workspace = 0;    // of a chunk, of the statistics, of decoding
    std::size_t logits = 0;
    std::size_t kernel_work = 0;  // a GPU: what kernels work in (engine/gpu_work.h)
    std::size_t tables = 0;       // a GPU: page tables, and rounding
    std::size_t kv_peak = 0;      // expected: pages in use at most, and the uncut layer
    std::size_t shared_copy = 0;  // of kv_peak and weights: a KV head that a lower rank owns
    std::size_t kv_full = 0;      // what the full cache would take instead
    std::int64_t pages = 0;
    std::size_t without_pool() const {
        return weights + residual + uncut_layer + workspace + logits + kernel_work + tables;
    }
    std::size_t total() const { return without_pool() + kept_cache; }
};
RankPlan plan_rank(const PlanInput& input, int rank);

// Messages of one request; payload bytes of one rank. Nothing crosses where there is one rank.
struct TrafficPlan {
    std::int64_t prefill_all_reduces = 0, prefill_all_reduce_bytes = 0;
    std::int64_t statistics_bytes = 0;  // two doubles a layer and policy that observes a window
    // Where scores are means over all heads: one all-reduce a layer that evicts, and one a step while decoding.
    std::int64_t score_all_reduces = 0, score_all_reduce_bytes = 0;
    std::int64_t score_all_reduces_per_token = 0, score_all_reduce_bytes_per_token = 0;
    // Among ranks that share a KV head (rank 0's): query heads' scores and the owner's choice, a layer and policy (if
    // all layers were alike); a step's scores while decoding.
    std::int64_t shared_head_bytes = 0, shared_head_bytes_per_token = 0;
    std::int64_t all_reduces_per_token = 0;
    std::int64_t all_reduce_bytes_per_token = 0;  // of a decode step of `batch` sequences
};
TrafficPlan plan_traffic(const PlanInput& input);

// Floating-point operations of a prefill (all ranks): 2 per multiply-add of linear layers and causal attention.
double prefill_flops(const ModelConfig& model, int prompt);

nlohmann::json to_json(const RankPlan& plan);
nlohmann::json to_json(const TrafficPlan& plan);

// "1.5 GiB"
std::string human_bytes(double bytes);

}  // namespace cake
