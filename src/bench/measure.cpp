#include "bench/measure.h"

#include <algorithm>

#include "engine/decode.h"
#include "engine/report.h"
#include "engine/request_report.h"
#include "engine/scheduler.h"

namespace cake {
namespace {

using nlohmann::json;

void add(PhaseTimes& to, const PhaseTimes& times, double sign) {
    for (std::size_t i = 0; i < to.seconds.size(); ++i)
        to.seconds[i] += sign * times.seconds[i];
    to.total_s += sign * times.total_s;
}

TokenId best(View logits) {
    const auto values = logits.span<float>();
    return TokenId(std::max_element(values.begin(), values.end()) - values.begin());
}

json rate(double amount, double seconds) { return seconds > 0 ? json(amount / seconds) : json(); }

json percent(double value, double of) { return of > 0 ? json(100 * value / of) : json(); }

}  // namespace

std::vector<Prefilled> measure_prefill(Engine& engine, std::span<const TokenId> prompt,
                                       const std::vector<Policy>& policies) {
    const ModelConfig& model = engine.plan().model;
    const int S = int(prompt.size());
    PhaseClock clock(engine.dev());
    const Rank rank = engine.rank(clock);
    std::vector<SequenceCache> caches;
    caches.reserve(policies.size());
    std::vector<Eviction> evictions;
    for (const Policy& policy : policies) {
        caches.emplace_back(engine.pool(), model.n_layers);
        evictions.emplace_back(policy, model.n_layers, S, caches.back());
    }
    // The most pages of each policy: after each layer it holds its share of it and all before.
    std::vector<std::size_t> most(policies.size());
    PrefillOptions options{.share_statistics = false};
    options.after_layer = [&](int) {
        for (std::size_t i = 0; i < caches.size(); ++i)
            most[i] = std::max(most[i], caches[i].n_pages());
        return true;
    };
    engine.comm().barrier();
    const Timer timer;
    const Tensor logits =
        prefill(rank, engine.model(), prompt, evictions, engine.workspace(), options);

    PhaseTimes shared = clock.times();
    shared.total_s = timer.seconds();
    for (const Eviction& e : evictions)
        add(shared, e.own, -1);
    std::vector<Prefilled> out;
    for (std::size_t i = 0; i < policies.size(); ++i) {
        const auto budgets = evictions[i].cascade.budgets();
        out.push_back({policies[i],
                       {budgets.begin(), budgets.end()},
                       std::move(caches[i]),
                       shared,
                       most[i],
                       best(logits)});
        add(out.back().times, evictions[i].own, 1);
    }
    return out;
}

DecodeMeasure measure_decode(Engine& engine, const Prefilled& from, int prompt_tokens, int batch,
                             int new_tokens, const Sampling& sampling) {
    DecodeMeasure out;
    std::vector<Sampler> samplers;
    PhaseClock clock(engine.dev());
    const Rank rank = engine.rank(clock);
    std::vector<std::unique_ptr<SequenceCache>> caches;
    DecodeBatch together(rank, engine.model(), from.policy, engine.workspace());
    for (int i = 0; i < batch; ++i) {
        caches.push_back(std::make_unique<SequenceCache>(from.cache.copy(rank.dev, rank.stream)));
        together.add(*caches.back(), prompt_tokens, kUncountedSteps + new_tokens, from.budgets);
        Sampling own = sampling;
        own.seed += std::uint64_t(i);
        samplers.emplace_back(own);
    }
    std::vector<TokenId> tokens(std::size_t(batch), from.first);
    const bool greedy = samplers.front().takes_best();
    const auto step = [&] {
        if (greedy) {
            tokens = together.step_to_best(tokens);
            return;
        }
        std::vector<Draw> draws;
        for (Sampler& sampler : samplers)
            draws.push_back(sampler.next_draw());
        tokens = together.step_to_sampled(tokens, draws);
    };
    for (int i = 0; i < kUncountedSteps; ++i)
        step();
    clock.restart();
    engine.comm().barrier();
    const Timer timer;
    for (int i = 0; i < new_tokens; ++i) {
        step();
        std::vector<const SequenceCache*> read;
        for (const auto& cache : caches)
            read.push_back(cache.get());
        out.bytes += step_bytes(engine, read);
    }
    const double total_s = timer.seconds();
    out.times = clock.times();
    out.times.total_s = total_s;
    return out;
}

Ceilings measure_ceilings(Backend& dev, Communicator& comm, Ceilings& alone) {
    comm.barrier();
    alone = dev.ceilings();
    double sums[] = {alone.read_gb_s, alone.gemm_tflop_s};
    comm.sum(sums);
    return {sums[0], sums[1]};
}

json sampling_json(const Sampling& sampling) {
    if (Sampler(sampling).takes_best())
        return {};
    return {{"temperature", sampling.temperature},
            {"top_k", sampling.top_k},
            {"top_p", sampling.top_p},
            {"min_p", sampling.min_p}};
}

json bench_row(Engine& engine, const BenchCell& cell, const Prefilled& p, const DecodeMeasure& d,
               const Ceilings& all, const Ceilings& alone) {
    const PlanInput& plan = engine.plan();
    const ModelConfig& m = plan.model;
    const RankPlan planned = plan_rank(plan, engine.model().shard.rank);
    const DeviceInfo device = engine.dev().info();
    // Bytes over all ranks: heads are dealt unevenly.
    double bytes[] = {double(p.cache.kept_bytes()),
                      double(p.pages * p.cache.layout().bytes()) +
                          double(planned.uncut_layer) * cell.prompt / plan.prompt,
                      double(bytes_of(plan.cache, 2LL * m.n_layers * cell.prompt *
                                                      engine.model().shard.n_kv() * m.d_head)),
                      double(engine.model().weight_bytes()),
                      double(planned.total()),
                      double(device.peak_bytes)};
    engine.comm().sum(bytes);

    const double flops = prefill_flops(m, cell.prompt);
    json prefill = to_json(p.times);
    prefill["s"] = p.times.total_s;
    prefill["tokens_per_s"] = rate(cell.prompt, p.times.total_s);
    prefill["flops"] = flops;
    prefill["tflop_s"] = rate(flops / 1e12, p.times.total_s);
    prefill["percent_of_gemm"] = percent(flops / 1e12 / p.times.total_s, all.gemm_tflop_s);
    json decode = to_json(d.times);
    decode["s"] = d.times.total_s;
    decode["tokens_per_s"] = rate(double(cell.batch) * cell.new_tokens, d.times.total_s);
    decode["step_ms"] = 1e3 * d.times.total_s / cell.new_tokens;
    decode["bytes_per_step"] = d.bytes / cell.new_tokens;
    decode["gb_s"] = rate(d.bytes / 1e9, d.times.total_s);
    decode["percent_of_bandwidth"] = percent(d.bytes / 1e9 / d.times.total_s, alone.read_gb_s);
    return {{"kind", "cell"},
            {"policy", cell.policy.name},
            {"cache_size", cell.policy.cache_size},
            {"cascade", cell.policy.cascade},
            {"prompt_tokens", cell.prompt},
            {"batch", cell.batch},
            {"new_tokens", cell.new_tokens},
            {"fits", true},
            {"prefill", prefill},
            {"decode", decode},
            {"kv", {{"kept_bytes", bytes[0]}, {"peak_bytes", bytes[1]}, {"full_bytes", bytes[2]}}},
            {"memory",
             {{"weights_bytes", bytes[3]},
              {"planned_bytes", bytes[4]},
              {"device_peak_bytes", device.own_memory ? json(bytes[5]) : json()},
              {"device_used_bytes", device.own_memory ? json(device.used_bytes) : json()}}},
            {"ceilings", {{"read_gb_s", all.read_gb_s}, {"gemm_tflop_s", all.gemm_tflop_s}}}};
}

}  // namespace cake
