#include "support/run_model.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "comm/staged.h"
#include "support/thread_comm.h"

namespace cake::test {
namespace {

// Every rank's positions of a cache, its heads one after another.
Positions all_positions(const Rank& rank, const Shard& shard, const SequenceCache& cache) {
    nlohmann::json mine = nlohmann::json::array();
    for (int l = 0; l < cache.n_layers(); ++l)
        mine.push_back(cache.positions(rank.dev, rank.stream, l));
    if (rank.sharers) {  // copies of a head hold the same tokens; the owner speaks for them
        for (const std::string& copy : rank.sharers->gather_strings(mine.dump()))
            EXPECT_EQ(copy, mine.dump());
        if (!shard.owns_kv())
            mine = nlohmann::json(std::vector<nlohmann::json>(std::size_t(cache.n_layers()),
                                                              nlohmann::json::array()));
    }
    Positions out(std::size_t(cache.n_layers()));
    for (const std::string& text : rank.comm.gather_strings(mine.dump())) {
        const auto theirs = nlohmann::json::parse(text).get<Positions>();
        for (std::size_t l = 0; l < out.size(); ++l)
            out[l].insert(out[l].end(), theirs[l].begin(), theirs[l].end());
    }
    return out;
}

std::vector<float> row(const Tensor& logits) {
    const auto values = logits.span<float>();
    return {values.begin(), values.end()};
}

TokenId best(const std::vector<float>& logits) {
    return TokenId(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Ranks that exchange what the host cannot read.
std::unique_ptr<Communicator> through_the_host(std::unique_ptr<Communicator> comm, Backend& dev) {
    return make_staged_communicator(
        std::move(comm),
        {.pinned = [&dev](std::size_t bytes) { return dev.allocate(bytes, Place::Pinned); },
         .copy = [&dev](Stream stream, View to, View from) { dev.copy(stream, to, from); },
         .synchronize = [&dev](Stream stream) { dev.synchronize(stream); }});
}

std::vector<RunOutcome> run_on(Backend& dev, Communicator& comm, const RunSettings& s) {
    const Checkpoint checkpoint = Checkpoint::open(s.model);
    PlanInput plan;
    plan.model = read_model_config(s.model);
    plan.policies = s.policies;
    plan.ranks = comm.size();
    plan.prompt = int(s.prompt.size());
    plan.new_tokens = s.new_tokens;
    plan.chunk = s.chunk;
    plan.page_tokens = s.page_tokens;
    plan.weights = dev.types().weights ? WeightTypes(*dev.types().weights) : s.weights;
    plan.activation = plan.residual = dev.types().activation;
    plan.cache = s.cache;
    plan.overlap = s.overlap;

    PhaseClock times(dev);
    const Shard shard = shard_of(plan.model, comm.size(), comm.rank());
    std::unique_ptr<Communicator> sharers;
    if (comm.size() > plan.model.n_kv_heads)
        sharers = comm.split(int(shard.kv_heads.begin));
    const Rank rank{dev, comm, &times, {}, shard.shares_kv() ? sharers.get() : nullptr};
    const Model model = load_model(dev, checkpoint, plan.model, shard, plan.weights);
    Workspace ws(dev, plan.model, shard, workspace_size(plan));
    const int L = plan.model.n_layers, S = plan.prompt;

    // A pool for each policy, so that each one's peak is seen.
    std::vector<PagePool> pools;
    std::vector<SequenceCache> caches;
    std::vector<Eviction> evictions;
    pools.reserve(s.policies.size());
    caches.reserve(s.policies.size());
    for (const Policy& policy : s.policies) {
        const PageLayout layout = page_layout(plan, shard);
        pools.emplace_back(dev, layout, int(pages_needed(policy, L, S, s.new_tokens, layout)));
        caches.emplace_back(pools.back(), L);
        evictions.emplace_back(policy, L, S, caches.back());
    }
    const std::vector<float> first =
        row(prefill(rank, model, s.prompt, evictions, ws, {.check = true}));

    std::vector<RunOutcome> out;
    for (std::size_t i = 0; i < evictions.size(); ++i) {
        const Eviction& e = evictions[i];
        RunOutcome o;
        o.evicted = e.cascade.evicts();
        o.seen = e.seen;
        o.budgets.assign(e.cascade.budgets().begin(), e.cascade.budgets().end());
        for (int l = 0; l < L; ++l)
            o.kept.push_back(caches[i].length(l));
        o.prefill = all_positions(rank, shard, caches[i]);
        DecodeBatch batch(rank, model, e.policy, ws);
        batch.add(caches[i], S, s.new_tokens, e.cascade.budgets());
        o.logits.push_back(first);
        o.tokens.push_back(best(first));
        while (int(o.tokens.size()) < s.new_tokens) {
            const TokenId last =
                s.answers.empty() ? o.tokens.back() : s.answers[i][o.tokens.size() - 1];
            o.logits.push_back(row(batch.step(std::span(&last, 1))));
            o.tokens.push_back(best(o.logits.back()));
        }
        o.final = all_positions(rank, shard, caches[i]);
        o.pages_planned = pools[i].n_pages();
        o.pages_peak = pools[i].high_water();
        caches[i].clear();
        o.pages_left = pools[i].in_use();
        out.push_back(std::move(o));
    }
    return out;
}

}  // namespace

std::vector<RunOutcome> run_model(Communicator& comm, const RunSettings& s) {
    if (!s.backend)
        return run_on(*make_cpu_backend(s.threads), comm, s);
    const std::unique_ptr<Backend> dev = s.backend();
    const auto connect = s.connect ? s.connect : through_the_host;
    return run_on(*dev, *connect(comm.split(0), *dev), s);
}

std::vector<RunOutcome> run_model(int ranks, const RunSettings& settings) {
    std::vector<std::vector<RunOutcome>> all{std::size_t(ranks)};
    run_ranks(ranks, [&](Communicator& comm) {
        all[std::size_t(comm.rank())] = run_model(comm, settings);
    });
    for (const auto& other : all) {
        for (std::size_t i = 0; i < other.size(); ++i) {
            EXPECT_EQ(other[i].tokens, all[0][i].tokens);
            EXPECT_EQ(other[i].budgets, all[0][i].budgets);
            EXPECT_EQ(other[i].kept, all[0][i].kept);
        }
    }
    return all[0];
}

Policy golden_policy(const nlohmann::json& index, const nlohmann::json& run) {
    Policy p;
    p.name = "cake";
    p.observe = Observe::Window;
    p.score = ColumnScore::MeanPlusVariance;
    p.share = Share::Preference;
    p.rounding = Rounding::Official;
    p.decode =
        run.value("order", "score") == "position" ? DecodeEvict::Position : DecodeEvict::Official;
    p.cascade = run["cascading"];
    p.cache_size = run["cache_size"];
    p.window = index["window"];
    p.pool = 5;
    p.tau1 = run["tau1"];
    p.tau2 = run["tau2"];
    p.gamma = run["gamma"];
    p.tolerant = true;
    return p;
}

Policy full_policy() { return Policy{}; }

}  // namespace cake::test
