// Several sequences decode together: each as if it were alone.
#include <algorithm>
#include <mutex>

#include <gtest/gtest.h>

#include "support/golden.h"
#include "support/run_model.h"
#include "support/thread_comm.h"

namespace cake::test {
namespace {

Policy cake_policy() {
    PolicyConfig c;
    c.cache_size = 48;
    c.window = 16;
    return make_policy(c, {});
}

Policy row(const std::string& name) {
    PolicyConfig c;
    c.name = name;
    c.cache_size = 48;
    return make_policy(c, {});
}

std::vector<TokenId> prompt_of(int tokens) {
    std::vector<TokenId> prompt = Golden("tiny-llama").prompt("p300");
    prompt.resize(std::size_t(tokens));
    return prompt;
}

// Tokens of each prompt when they decode in one batch; the second leaves after 5 steps.
std::vector<std::vector<TokenId>> decode_together(int ranks, const std::vector<int>& lengths,
                                                  const Policy& policy) {
    std::vector<std::vector<TokenId>> tokens(lengths.size());
    run_ranks(ranks, [&](Communicator& comm) {
        const std::string path = golden_path("tiny-llama") + "/model";
        auto dev = make_cpu_backend(1);
        PlanInput plan;
        plan.model = read_model_config(path);
        plan.policies = {policy};
        plan.ranks = comm.size();
        plan.prompt = *std::max_element(lengths.begin(), lengths.end());
        plan.new_tokens = 12;
        plan.batch = int(lengths.size());
        plan.chunk = 128;
        PhaseClock times(*dev);
        const Shard shard = shard_of(plan.model, comm.size(), comm.rank());
        std::unique_ptr<Communicator> sharers;
        if (comm.size() > plan.model.n_kv_heads)
            sharers = comm.split(int(shard.kv_heads.begin));
        const Rank rank{*dev, comm, &times, {}, shard.shares_kv() ? sharers.get() : nullptr};
        const Model model = load_model(*dev, Checkpoint::open(path), plan.model, shard, DType::F32);
        Workspace ws(*dev, plan.model, shard, workspace_size(plan));
        PagePool pool(*dev, page_layout(plan, shard), int(plan_rank(plan, comm.rank()).pages));

        std::vector<std::unique_ptr<SequenceCache>> caches;
        DecodeBatch batch(rank, model, policy, ws);
        std::vector<std::size_t> members;
        std::vector<std::vector<TokenId>> mine(lengths.size());
        auto best = [](View row) {
            const auto logits = row.span<float>();
            return TokenId(std::max_element(logits.begin(), logits.end()) - logits.begin());
        };
        for (std::size_t i = 0; i < lengths.size(); ++i) {
            caches.push_back(std::make_unique<SequenceCache>(pool, plan.model.n_layers));
            std::vector<Eviction> e;
            e.emplace_back(policy, plan.model.n_layers, lengths[i], *caches.back());
            mine[i].push_back(best(prefill(rank, model, prompt_of(lengths[i]), e, ws)));
            batch.add(*caches.back(), lengths[i], plan.new_tokens, e[0].cascade.budgets());
            members.push_back(i);
        }
        for (int step = 0; step < 10; ++step) {
            if (step == 5 && members.size() > 1) {
                batch.remove(1);
                caches[members[1]]->clear();
                members.erase(members.begin() + 1);
            }
            std::vector<TokenId> next;
            for (std::size_t i : members)
                next.push_back(mine[i].back());
            const Tensor logits = batch.step(next);  // [batch, vocab]
            for (std::size_t b = 0; b < members.size(); ++b)
                mine[members[b]].push_back(best(logits.view().row(std::int64_t(b))));
        }
        caches.clear();
        EXPECT_EQ(pool.in_use(), 0);
        EXPECT_LE(pool.high_water(), pool.n_pages());
        if (comm.rank() == 0)
            tokens = mine;
    });
    return tokens;
}

TEST(DecodeBatch, GivesEachSequenceTheTokensThatItHasAlone) {
    const std::vector<int> lengths{300, 40, 120};
    for (const Policy& policy : {cake_policy(), full_policy(), row("h2o"), row("tova")})
        for (int ranks : {1, 2, 5}) {
            const auto together = decode_together(ranks, lengths, policy);
            for (std::size_t i = 0; i < lengths.size(); ++i) {
                const auto alone = decode_together(ranks, {lengths[i]}, policy)[0];
                ASSERT_EQ(together[i].size(), i == 1 ? 6u : 11u);
                EXPECT_TRUE(std::equal(together[i].begin(), together[i].end(), alone.begin()))
                    << policy.name << " on " << ranks << " ranks, prompt of " << lengths[i];
            }
        }
}

}  // namespace
}  // namespace cake::test
