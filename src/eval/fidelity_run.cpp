#include "eval/fidelity_run.h"

#include <algorithm>
#include <memory>

#include "engine/decode.h"
#include "policy/policy_list.h"

namespace cake {
namespace {

bool step_alike(const Policy& a, const Policy& b) {
    if (a.decode == DecodeEvict::None || b.decode == DecodeEvict::None)
        return a.decode == b.decode;
    return a.decode == b.decode && a.observe == b.observe && a.heads == b.heads &&
           a.window == b.window && a.pool == b.pool;
}

// What a policy kept of the prompt.
struct Kept {
    SequenceCache cache;
    std::vector<int> budgets;  // that decoding keeps to
    PolicyFidelity fidelity;   // as far as it is known after prefill
};

bool go_on(Engine& engine, const FidelityOptions& options) {
    std::int32_t stop = engine.comm().rank() == 0 && options.stopped && options.stopped();
    engine.comm().broadcast_bytes(std::as_writable_bytes(std::span(&stop, 1)), 0);
    return !stop;
}

// Nothing: stopped.
std::vector<Kept> pass_prompt(Engine& engine, std::span<const TokenId> prompt,
                              const std::vector<Policy>& policies, const FidelityOptions& options) {
    const int L = engine.plan().model.n_layers, S = int(prompt.size());
    const Rank rank = engine.rank(engine.prefill_clock());
    std::vector<Kept> out;
    out.reserve(policies.size());
    std::vector<Eviction> evictions;
    for (const Policy& policy : policies) {
        out.push_back({SequenceCache(engine.pool(), L), {}, {policy.name, policy.cache_size}});
        evictions.emplace_back(policy, L, S, out.back().cache);
    }
    const Timer timer;
    PrefillOptions prefill_options{.check = options.check};
    prefill_options.after_layer = [&](int layer) {
        if (options.progress)
            options.progress(layer + 1);
        return go_on(engine, options);
    };
    const Tensor logits =
        prefill(rank, engine.model(), prompt, evictions, engine.workspace(), prefill_options);
    engine.prefill_clock().times().total_s += timer.seconds();
    if (logits.bytes() == 0)
        return {};
    engine.work().prompt_tokens += S;
    engine.work().prefill_flops += prefill_flops(engine.plan().model, S);
    for (std::size_t i = 0; i < out.size(); ++i) {
        auto& [cache, budgets, fidelity] = out[i];
        const Cascade& cascade = evictions[i].cascade;
        budgets.assign(cascade.budgets().begin(), cascade.budgets().end());
        double kept = 0;
        for (int l = 0; l < L; ++l) {
            const int length = cache.length(l);
            kept += length;
            fidelity.layers.push_back(
                {cascade.evicts() ? budgets[std::size_t(l)] : length, length});
        }
        fidelity.kept_percent = 100 * kept / (double(S) * L);
    }
    return out;
}

// What the layers' attention makes of each sequence of a batch, on the host once the step is over.
class AttentionRows {
public:
    AttentionRows(Engine& engine, std::int64_t batch)
        : dev_(engine.dev()),
          batch_(batch),
          rows_(dev_.tensor(engine.dev().types().activation,
                            {engine.plan().model.n_layers * batch,
                             std::int64_t(engine.model().shard.n_q()) * engine.plan().model.d_head},
                            Place::Pinned)) {}

    void take(Stream stream, int layer, View attention) {
        dev_.copy(stream, rows_.view().rows(layer * batch_, batch_), attention);
    }
    std::vector<double> row(int layer, std::size_t member) const {
        const View row = rows_.view().row(layer * batch_ + std::int64_t(member));
        std::vector<double> out;
        if (row.dtype() == DType::F32)
            for (const float x : row.span<float>())
                out.push_back(x);
        else
            for (const bf16 x : row.span<bf16>())
                out.push_back(to_float(x));
        return out;
    }

private:
    Backend& dev_;
    std::int64_t batch_;
    Tensor rows_;  // [layers * batch, n_q d_head], pinned
};

// Squares of attention outputs over this rank's heads, and of how far those of each policy are from the full cache's:
// [position][policy][layer].
class AttentionSquares {
public:
    AttentionSquares(int positions, std::size_t policies, int layers)
        : policies_(policies),
          layers_(std::size_t(layers)),
          full_(std::size_t(positions) * layers_),
          differences_(std::size_t(positions) * policies * layers_) {}

    void add(int position, std::size_t policy, int layer, std::span<const double> full,
             std::span<const double> mine) {
        double& difference = differences_[at(position, policy, layer)];
        double& whole = full_[std::size_t(position) * layers_ + std::size_t(layer)];
        whole = 0;
        for (std::size_t i = 0; i < full.size(); ++i) {
            difference += (full[i] - mine[i]) * (full[i] - mine[i]);
            whole += full[i] * full[i];
        }
    }
    // Collective: after this they are of all heads.
    void sum(Communicator& comm) {
        comm.sum(full_);
        comm.sum(differences_);
    }
    double mean_error(int positions, std::size_t policy, int layer) const {
        double sum = 0;
        for (int i = 0; i < positions; ++i)
            sum += relative_error(differences_[at(i, policy, layer)],
                                  full_[std::size_t(i) * layers_ + std::size_t(layer)]);
        return sum / positions;
    }

private:
    std::size_t at(int position, std::size_t policy, int layer) const {
        return (std::size_t(position) * policies_ + policy) * layers_ + std::size_t(layer);
    }
    std::size_t policies_, layers_;
    std::vector<double> full_, differences_;
};

struct Group {
    std::vector<std::size_t> members;  // indices of policies
    DecodeBatch batch;
    AttentionRows attention;
};

// All policies, a step of the text at a time.
class Steps {
public:
    Steps(Engine& engine, std::span<const TokenId> tokens, int prompt,
          const std::vector<Policy>& policies, std::vector<Kept>& kept, int positions)
        : engine_(engine),
          tokens_(tokens.subspan(std::size_t(prompt))),
          kept_(kept),
          positions_(positions),
          rank_(engine.rank(engine.decode_clock())),
          squares_(positions, policies.size(), engine.plan().model.n_layers) {
        for (const std::vector<std::size_t>& members : step_groups(policies)) {
            auto& group = groups_.emplace_back(std::make_unique<Group>(
                Group{members,
                      DecodeBatch(rank_, engine.model(), policies[members[0]], engine.workspace()),
                      AttentionRows(engine, std::int64_t(members.size()))}));
            for (const std::size_t i : members)
                group->batch.add(kept[i].cache, prompt, positions, kept[i].budgets);
            group->batch.on_attention([this, to = &group->attention](int layer, View attention) {
                to->take(rank_.stream, layer, attention);
            });
        }
    }

    void take(int position) {
        for (const auto& group : groups_) {  // the full cache's is the first
            const std::vector<TokenId> tokens(group->members.size(),
                                              tokens_[std::size_t(position)]);
            const Tensor logits = group->batch.step(tokens);
            for (std::size_t m = 0; m < group->members.size(); ++m) {
                const std::size_t policy = group->members[m];
                if (rank_.comm.rank() == 0)
                    judge(logits.view().row(std::int64_t(m)).span<float>(), kept_[policy].fidelity,
                          tokens_[std::size_t(position) + 1]);
                for (int l = 0; l < engine_.plan().model.n_layers; ++l)
                    squares_.add(position, policy, l, groups_[0]->attention.row(l, 0),
                                 group->attention.row(l, m));
            }
        }
    }

    // Collective.
    void finish() {
        squares_.sum(rank_.comm);
        for (std::size_t i = 0; i < kept_.size(); ++i)
            for (int l = 0; l < engine_.plan().model.n_layers; ++l)
                kept_[i].fidelity.layers[std::size_t(l)].attention_error =
                    squares_.mean_error(positions_, i, l);
    }

private:
    // The full cache is the first at each position: the others are held against what it said.
    void judge(std::span<const float> logits, PolicyFidelity& to, TokenId next) {
        Distribution mine = softmax(logits);
        to.nll.push_back(-mine.log_p[std::size_t(next)]);
        if (&to == &kept_[0].fidelity)
            full_ = mine;
        to.kl.push_back(kl_divergence(full_, mine));
        to.agrees.push_back(full_.best() == mine.best());
    }

    Engine& engine_;
    std::span<const TokenId> tokens_;  // behind the prompt
    std::vector<Kept>& kept_;
    int positions_;
    Rank rank_;
    AttentionSquares squares_;
    std::vector<std::unique_ptr<Group>> groups_;
    Distribution full_;
};

}  // namespace

std::vector<Policy> fidelity_policies(const RunConfig& config, const ModelConfig& model) {
    PolicyConfig full;
    full.name = "full";
    std::vector<Policy> out{make_policy(full, model)};
    for (const ListedPolicy& p :
         list_policies(config.policy, config.eval.policies, config.eval.cache_sizes, model))
        if (!p.policy.keeps_everything())
            out.push_back(p.policy);
    return out;
}

std::vector<std::vector<std::size_t>> step_groups(std::span<const Policy> policies) {
    std::vector<std::vector<std::size_t>> out;
    for (std::size_t i = 0; i < policies.size(); ++i) {
        const auto found = std::find_if(out.begin(), out.end(), [&](const auto& group) {
            return step_alike(policies[group[0]], policies[i]);
        });
        if (found == out.end())
            out.push_back({i});
        else
            found->push_back(i);
    }
    return out;
}

PlanInput fidelity_plan(const RunConfig& config, const ModelConfig& model, int ranks, int prompt,
                        const ComputeTypes& types) {
    PlanInput plan = plan_input(config, model, ranks, prompt, config.eval.positions, types);
    plan.policies = fidelity_policies(config, model);
    plan.shorter = true;
    // Pages for one sequence of each policy; all else for as many sequences as step together.
    std::size_t page = 0;
    for (int r = 0; r < ranks; ++r)
        page = std::max(page, page_layout(plan, shard_of(model, ranks, r)).bytes());
    plan.kv_bytes = std::size_t(plan_rank(plan, 0).pages) * page;
    for (const auto& group : step_groups(plan.policies))
        plan.batch = std::max(plan.batch, int(group.size()));
    return plan;
}

std::optional<TextFidelity> measure_fidelity(Engine& engine, std::span<const TokenId> tokens,
                                             int prompt, const std::vector<Policy>& policies,
                                             const FidelityOptions& options) {
    CAKE_CHECK(std::int64_t(tokens.size()) > std::int64_t(prompt) + options.positions,
               "{} tokens for a prompt of {} and {} positions", tokens.size(), prompt,
               options.positions);
    std::vector<Kept> kept =
        pass_prompt(engine, tokens.first(std::size_t(prompt)), policies, options);
    if (kept.empty())
        return {};
    const Timer timer;
    Steps steps(engine, tokens, prompt, policies, kept, options.positions);
    for (int i = 0; i < options.positions; ++i) {
        if (!go_on(engine, options))
            return {};
        steps.take(i);
        if (options.progress)
            options.progress(engine.plan().model.n_layers + i + 1);
    }
    steps.finish();
    engine.decode_clock().times().total_s += timer.seconds();
    engine.work().full_tokens_peak =
        std::max<std::int64_t>(engine.work().full_tokens_peak, prompt + options.positions);
    TextFidelity out;
    out.prompt_tokens = prompt;
    for (Kept& k : kept)
        out.policies.push_back(std::move(k.fidelity));
    return out;
}

}  // namespace cake
