#include "engine/plan.h"

#include <algorithm>

#include "engine/decode.h"
#include "engine/gpu_work.h"
#include "engine/sampler.h"

namespace cake {

PlanInput plan_input(const RunConfig& config, const ModelConfig& model, int ranks, int prompt,
                     int new_tokens, const ComputeTypes& types) {
    PlanInput in;
    in.model = model;
    in.policies = {make_policy(config.policy, model)};
    in.ranks = ranks;
    in.prompt = prompt;
    in.new_tokens = new_tokens;
    in.chunk = int(number_in(config.engine.prefill_chunk).value_or(types.gpu ? 8192 : 2048));
    in.page_tokens = int(number_in(config.engine.page_tokens).value_or(0));
    in.weights = requested_types(model, config.model.dtype, config.model.path, types.weights);
    const std::string& cache = config.engine.cache_dtype;
    // With a narrow cache, sums that round differently on another number of ranks move keys and values by whole steps of
    // it. So it is for models whose weights have no finer steps; quantised ones are exact in F32.
    const DType main = in.weights.main();
    const bool wide =
        cache == "f32" || (cache == "auto" && main != DType::BF16 && main != DType::F16);
    in.cache = wide ? DType::F32 : DType::BF16;
    in.activation = types.activation;
    in.greedy = Sampler(sampling_of(config)).takes_best();
    in.gpu = types.gpu;
    const std::string& residual = config.engine.residual_dtype;
    in.residual = residual == "bf16"  ? DType::BF16
                  : residual == "f32" ? DType::F32
                                      : types.activation;
    return in;
}

RunConfig resolved_config(RunConfig config, const PlanInput& plan) {
    config.policy = resolved(config.policy, plan.policies.front());
    const auto weights = plan.weights.all();
    config.model.dtype =
        weights == DType::F32 || weights == DType::BF16 ? name(*weights) : std::string_view("auto");
    config.engine.cache_dtype = name(plan.cache);
    config.engine.prefill_chunk = std::to_string(plan.chunk);
    config.engine.page_tokens = std::to_string(page_tokens(plan));
    return config;
}

int page_tokens(const PlanInput& in) {
    if (in.page_tokens > 0)
        return in.page_tokens;
    for (const Policy& p : in.policies)
        if (!p.keeps_everything() && p.cache_size < 512)
            return 16;
    return 64;
}

PageLayout page_layout(const PlanInput& in, const Shard& shard) {
    const bool running = std::any_of(in.policies.begin(), in.policies.end(),
                                     [](const Policy& p) { return p.accumulates(); });
    return {shard.n_kv(), page_tokens(in), in.model.d_head, in.cache, running};
}

std::vector<int> critical_prompts(const PlanInput& in, const Policy& p) {
    if (in.shorter && p.evicts(in.prompt))
        return {in.prompt, p.longest_whole()};
    return {in.prompt};
}

WorkspaceSize workspace_size(const PlanInput& in) {
    WorkspaceSize z;
    z.prompt = in.prompt;
    const bool in_pairs = in.overlap && in.ranks > 1;
    z.chunk = int(rows_of_part(in.prompt, in.chunk, in_pairs));
    z.overlap = in_pairs && z.chunk < in.prompt;
    z.batch = in.batch;
    z.cache_dtype = in.cache;
    z.activation_dtype = in.activation;
    z.residual_dtype = in.residual;
    for (const Policy& p : in.policies) {
        z.selects |= p.evicts(in.prompt);
        z.columns |= p.observe == Observe::All;
        if (p.observe == Observe::Window)
            z.window = std::max(z.window, std::min(p.window, in.prompt));
        for (int prompt : critical_prompts(in, p))
            z.decode_rows =
                std::max(z.decode_rows,
                         in.batch * decode_row_floats(p, in.model.n_layers, prompt, in.new_tokens));
    }
    return z;
}

std::size_t gpu_library_bytes(const PlanInput& in) {
    constexpr std::size_t mib = std::size_t(1) << 20;
    const WorkspaceSize z = workspace_size(in);
    const std::size_t delta =
        bytes_of(in.residual, std::int64_t(std::max(z.chunk, z.batch)) * in.model.d_model);
    if (!in.overlap || in.ranks == 1)
        return 256 * mib;
    const std::size_t streams = 1 + z.overlap, sharers = in.ranks > in.model.n_kv_heads;
    return 256 * mib + streams * (768 * mib + delta) + sharers * 768 * mib;
}

namespace {

// Each layer's last page is nearly empty at worst, half empty on average.
std::int64_t pages_held(const Policy& policy, int n_layers, int prompt, int new_tokens,
                        const PageLayout& layout, bool worst) {
    const std::int64_t L = n_layers;
    const bool grows = policy.decode == DecodeEvict::None;
    if (!policy.evicts(prompt)) {
        // Whole in prefill; while decoding an evicting policy brings it to C.
        const std::int64_t whole = std::int64_t(prompt) + new_tokens;
        const std::int64_t most = std::max(prompt, policy.cache_size) + std::int64_t(1);
        return L * layout.pages_for(grows ? whole : std::min(whole, most));
    }
    // Shares add up to T, rounded up to whole tokens in each layer at a stage; each layer has its window and, while
    // decoding, one more slot or the new tokens; each ends in a page that may be nearly empty.
    const std::int64_t slots =
        L * policy.prefix_budget() + L + L * (policy.window + (grows ? new_tokens : 1));
    const std::int64_t shared = slots / layout.page_tokens + (worst ? L : L / 2);
    if (!policy.cascade)  // the last layer is cut before it is stored
        return std::max((L - 1) * layout.pages_for(prompt), shared);
    return std::min(L * layout.pages_for(prompt + (grows ? new_tokens : 1)), shared);
}

}  // namespace

std::int64_t pages_needed(const Policy& policy, int n_layers, int prompt, int new_tokens,
                          const PageLayout& layout) {
    return pages_held(policy, n_layers, prompt, new_tokens, layout, true);
}

namespace {

std::int64_t most_pages(const PlanInput& in, const Policy& policy, const PageLayout& layout,
                        bool worst) {
    std::int64_t most = 0;
    for (int prompt : critical_prompts(in, policy))
        most = std::max(
            most, pages_held(policy, in.model.n_layers, prompt, in.new_tokens, layout, worst));
    return most;
}

// As many on every rank, so that all admit alike: those that fit into the bytes where a page is largest.
std::int64_t pages_in(const PlanInput& in, std::size_t bytes) {
    std::size_t page = 0;
    for (int r = 0; r < in.ranks; ++r)
        page = std::max(page, page_layout(in, shard_of(in.model, in.ranks, r)).bytes());
    return std::int64_t(bytes / page);
}

}  // namespace

RankPlan plan_rank(const PlanInput& in, int rank) {
    RankPlan p;
    p.shard = shard_of(in.model, in.ranks, rank);
    p.weights = model_bytes(in.model, p.shard, in.weights, in.activation);
    const WorkspaceBytes work = workspace_bytes(in.model, p.shard, workspace_size(in));
    p.residual = work.residual;
    p.uncut_layer = work.uncut_layer;
    p.workspace = work.other;
    p.logits = work.logits;
    const PageLayout layout = page_layout(in, p.shard);
    for (const Policy& policy : in.policies) {
        p.pages += in.batch * most_pages(in, policy, layout, true);
        p.kv_peak += std::size_t(in.batch * most_pages(in, policy, layout, false)) * layout.bytes();
    }
    if (in.kv_bytes > 0) {
        p.pages = pages_in(in, in.kv_bytes);
        p.kv_peak = std::min(p.kv_peak, std::size_t(p.pages) * layout.bytes());
    }
    p.kv_peak += p.uncut_layer;
    p.kept_cache = std::size_t(p.pages) * layout.bytes();
    if (in.gpu) {
        const GpuWork work_beside = gpu_work(in, p.shard);
        p.kernel_work = work_beside.kernels;
        p.tables = work_beside.tables + std::size_t(p.pages) * sizeof(std::int32_t);
    }
    if (!p.shard.owns_kv()) {
        p.shared_copy = p.kv_peak;
        for (int l = 0; l < in.model.n_layers; ++l)
            p.shared_copy += bytes_of(in.weights.of(layer_matrices(in.model, p.shard, l).qkv),
                                      2 * std::int64_t(in.model.d_head) * in.model.d_model);
    }
    p.kv_full =
        bytes_of(in.cache, 2 * std::int64_t(in.batch) * in.model.n_layers *
                               (in.prompt + in.new_tokens) * p.shard.n_kv() * in.model.d_head);
    return p;
}

namespace {

// Positions that a KV head's owner sends in a prefill: what each layer keeps at its own stage; of shares by preference, if
// all layers were alike.
std::int64_t stage_choices(const Policy& p, std::int64_t L, std::int64_t S) {
    if (!p.cascade)
        return (L - 1) * (S - p.window) + p.prefix_budget();
    if (p.share != Share::Preference)
        return L * std::min<std::int64_t>(S - p.window, p.prefix_budget());
    std::int64_t sum = 0;
    for (std::int64_t l = 1; l <= L; ++l)
        sum += std::min(S - p.window, L * p.prefix_budget() / l);
    return sum;
}

}  // namespace

TrafficPlan plan_traffic(const PlanInput& in) {
    TrafficPlan t;
    if (in.ranks == 1)
        return t;
    const std::int64_t L = in.model.n_layers, S = in.prompt,
                       row = std::int64_t(bytes_of(in.residual, in.model.d_model));
    const std::int64_t chunk = workspace_size(in).chunk;
    t.prefill_all_reduces = 1 + 2 * L * ((S + chunk - 1) / chunk);
    t.prefill_all_reduce_bytes = (1 + 2 * L) * S * row;
    for (const Policy& p : in.policies)
        if (p.observe == Observe::Window && S > p.window)
            t.statistics_bytes += L * 2 * std::int64_t(sizeof(double));
    const Shard first = shard_of(in.model, in.ranks, 0);
    for (const Policy& p : in.policies) {
        const bool evicts = p.evicts(in.prompt);
        const std::int64_t decode_floats =
            p.observe == Observe::Nothing
                ? 0
                : in.batch * decode_row_floats(p, in.model.n_layers, in.prompt, in.new_tokens);
        if (p.heads == Heads::All) {
            t.score_all_reduces += evicts ? L : 0;
            t.score_all_reduce_bytes += evicts ? 4 * L * (S - p.window) : 0;
            t.score_all_reduces_per_token += decode_floats > 0;
            t.score_all_reduce_bytes_per_token += 4 * decode_floats;
        }
        if (!first.shares_kv())
            continue;
        std::int64_t columns = 0;  // whose scores are gathered
        if (p.observe == Observe::All)
            columns = evicts || p.accumulates() ? S : 0;
        else if (p.observe == Observe::Window && p.heads == Heads::Group)
            columns = evicts ? S - p.window : 0;
        t.shared_head_bytes +=
            4 * (L * first.n_q() * columns + (evicts ? stage_choices(p, L, S) : 0));
        if (p.heads == Heads::Group)  // summed, and the owner's sum sent
            t.shared_head_bytes_per_token += 2 * 4 * decode_floats;
    }
    t.all_reduces_per_token = 1 + 2 * L;
    t.all_reduce_bytes_per_token = (1 + 2 * L) * in.batch * row;
    return t;
}

double prefill_flops(const ModelConfig& m, int prompt) {
    const double S = prompt;
    const double linear =
        double(m.n_layers) * (double(2 * m.n_heads + 2 * m.n_kv_heads) * m.d_head * m.d_model +
                              3.0 * m.d_model * m.d_ff);
    const double attention =
        double(m.n_layers) * m.n_heads * m.d_head * (S + 1);  // 2 products of S/2 keys
    return 2 * S * (linear + attention) + 2.0 * m.d_model * m.vocab;
}

nlohmann::json to_json(const RankPlan& p) {
    auto range = [](Range r) { return nlohmann::json{r.begin, r.end}; };
    return {{"rank", p.shard.rank},
            {"kv_heads", range(p.shard.kv_heads)},
            {"query_heads", range(p.shard.q_heads)},
            {"mlp_columns", range(p.shard.ff)},
            {"vocabulary", range(p.shard.vocab)},
            {"weights_bytes", p.weights},
            {"residual_bytes", p.residual},
            {"uncut_layer_bytes", p.uncut_layer},
            {"kept_cache_bytes", p.kept_cache},
            {"workspace_bytes", p.workspace},
            {"logits_bytes", p.logits},
            {"kernel_work_bytes", p.kernel_work},
            {"tables_bytes", p.tables},
            {"total_bytes", p.total()},
            {"kv_peak_bytes", p.kv_peak},
            {"shared_copy_bytes", p.shared_copy},
            {"kv_full_bytes", p.kv_full}};
}

nlohmann::json to_json(const TrafficPlan& t) {
    return {{"prefill_all_reduces", t.prefill_all_reduces},
            {"prefill_all_reduce_bytes", t.prefill_all_reduce_bytes},
            {"statistics_bytes", t.statistics_bytes},
            {"score_all_reduces", t.score_all_reduces},
            {"score_all_reduce_bytes", t.score_all_reduce_bytes},
            {"score_all_reduces_per_token", t.score_all_reduces_per_token},
            {"score_all_reduce_bytes_per_token", t.score_all_reduce_bytes_per_token},
            {"shared_head_bytes", t.shared_head_bytes},
            {"shared_head_bytes_per_token", t.shared_head_bytes_per_token},
            {"all_reduces_per_token", t.all_reduces_per_token},
            {"all_reduce_bytes_per_token", t.all_reduce_bytes_per_token}};
}

std::string human_bytes(double bytes) {
    const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int u = 0;
    for (; bytes >= 1024 && u < 4; ++u)
        bytes /= 1024;
    return fmt::format("{:.{}f} {}", bytes, u == 0 ? 0 : 1, units[u]);
}

}  // namespace cake
