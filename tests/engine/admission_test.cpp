// No request ever takes more pages than it was admitted with, whatever the policy and the lengths.
#include <random>

#include <gtest/gtest.h>

#include "engine/scheduler.h"
#include "support/golden.h"
#include "support/thread_comm.h"

namespace cake::test {
namespace {

class Draw {
public:
    explicit Draw(unsigned seed) : random_(seed) {}
    int between(int a, int b) { return a + int(random_() % unsigned(b - a + 1)); }
    bool once_in(int n) { return between(1, n) == 1; }
    template <typename T>
    T one_of(std::initializer_list<T> values) {
        return values.begin()[between(0, int(values.size()) - 1)];
    }

private:
    std::mt19937 random_;
};

PolicyConfig random_policy(Draw& draw) {
    PolicyConfig c;
    const auto names = policy_names();
    c.name = draw.once_in(3) ? "cake" : names[std::size_t(draw.between(0, int(names.size()) - 1))];
    if (c.name == "full")
        return c;
    c.cache_size = draw.between(3, 70);
    if (c.name == "cake" || c.name == "snapkv" || c.name == "pyramidkv" || c.name == "h2o")
        c.window = draw.between(2, *c.cache_size - 1);
    if (c.name == "streaming")
        c.sinks = draw.between(0, *c.cache_size - 1);
    if (c.name == "cake" && draw.once_in(2))
        c.rounding = "official";
    c.cascade = draw.once_in(2);
    if (draw.once_in(3))
        c.decode = draw.one_of({"position", "official", "none"});
    if (c.name != "cake" && draw.once_in(3))
        c.share = draw.one_of({"random", "pyramid", "uniform"});
    if (draw.once_in(3))  // sharply different preferences
        c.tau1 = 0.2, c.tau2 = 0.15;
    return c;
}

TEST(Admission, NoRequestTakesMorePagesThanItWasAdmittedWith) {
    const std::string path = golden_path("tiny-llama") + "/model";
    const ModelConfig model = read_model_config(path);
    Draw draw(5);
    int served = 0;
    for (int round = 0; round < 150; ++round) {
        const Policy policy = make_policy(random_policy(draw), model);
        PlanInput plan;
        plan.model = model;
        plan.policies = {policy};
        plan.shorter = true;
        plan.batch = draw.between(1, 4);
        plan.page_tokens = draw.one_of({1, 2, 4, 7, 16, 64});
        plan.ranks = draw.once_in(4) ? draw.between(2, 5) : 1;
        const int C = policy.cache_size, w = policy.window;
        std::vector<Request> requests;
        for (int i = draw.between(1, 5); i > 0; --i) {
            Request r;
            r.id = std::to_string(i);
            const int S = std::max(1, draw.one_of({1, 2, w, C - 1, C, C + 1, C + w - 1, C + w,
                                                   C + w + 1, draw.between(1, 160)}));
            for (int t = 0; t < S; ++t)
                r.prompt.push_back(draw.between(0, model.vocab - 1));
            r.max_new_tokens = draw.one_of({1, 2, draw.between(1, 60)});
            plan.prompt = std::max(plan.prompt, S);
            plan.new_tokens = std::max(plan.new_tokens, r.max_new_tokens);
            requests.push_back(std::move(r));
        }
        // Exactly what the largest needs, so that a page too many throws.
        std::size_t page = 0;
        for (int r = 0; r < plan.ranks; ++r)
            page = std::max(page, page_layout(plan, shard_of(model, plan.ranks, r)).bytes());
        std::int64_t most = 0;
        for (const Request& r : requests)
            most = std::max(
                most, pages_needed(policy, model.n_layers, int(r.prompt.size()), r.max_new_tokens,
                                   page_layout(plan, shard_of(model, plan.ranks, 0))));
        plan.kv_bytes = std::size_t(most) * page;

        run_ranks(plan.ranks, [&](Communicator& comm) {
            auto dev = make_cpu_backend(1);
            Engine engine(*dev, comm, Checkpoint::open(path), plan);
            std::size_t next = 0, over = 0;
            const Feed feed{.next = [&]() -> std::optional<Request> {
                                if (next == requests.size())
                                    return {};
                                return requests[next++];
                            },
                            .done =
                                [&](const Request& r, const Generation& g) {
                                    EXPECT_EQ(int(g.tokens.size()), r.max_new_tokens);
                                    ++over;
                                }};
            serve(engine, feed, {.interleave_ms = 0, .prefill = {.check = true}});
            EXPECT_EQ(over, requests.size());
            EXPECT_EQ(engine.pool().in_use(), 0);
        });
        served += int(requests.size());
        ASSERT_FALSE(HasFailure()) << policy.name << " C " << C << " w " << w << " pages of "
                                   << plan.page_tokens << " on " << plan.ranks << " ranks";
    }
    EXPECT_GT(served, 300);
}

}  // namespace
}  // namespace cake::test
