// Many requests through one engine: each as if it were alone, in order, and never more pages than were admitted.
#include "engine/scheduler.h"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/golden.h"
#include "support/thread_comm.h"

namespace cake::test {
namespace {

Policy policy_named(const std::string& name) {
    PolicyConfig c;
    c.name = name;
    if (name != "full")
        c.cache_size = 48;
    if (name == "cake" || name == "snapkv" || name == "pyramidkv")
        c.window = 16;
    return make_policy(c, {});
}

// Prompts of tiny-llama's p300 cut to `lengths`, each with another first token and another number of new tokens.
std::vector<Request> requests_of(const std::vector<int>& lengths) {
    std::vector<Request> out;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
        Request r;
        r.id = "r" + std::to_string(i);
        r.prompt = Golden("tiny-llama").prompt("p300");
        r.prompt.resize(std::size_t(lengths[i]));
        r.prompt[0] = TokenId(i + 1);
        r.max_new_tokens = 4 + int(i * 5 % 13);
        out.push_back(std::move(r));
    }
    return out;
}

struct Setting {
    int ranks = 1, batch = 1, interleave_ms = 0;
    Policy policy = {};
    std::size_t kv_bytes = 0;
    int stop_after = -1;  // tokens; -1: never
};

struct Served {
    std::map<std::string, std::vector<TokenId>> tokens;  // by id, of requests that are over
    std::vector<std::string> started, over;              // ids in order
    bool all = false;
    int pages_left = 0, high_water = 0, pages = 0;
};

Served serve_all(const Setting& s, std::vector<Request> requests) {
    Served out;
    run_ranks(s.ranks, [&](Communicator& comm) {
        const std::string path = golden_path("tiny-llama") + "/model";
        auto dev = make_cpu_backend(1);
        PlanInput plan;
        plan.model = read_model_config(path);
        plan.policies = {s.policy};
        plan.ranks = comm.size();
        for (const Request& r : requests) {
            plan.prompt = std::max(plan.prompt, int(r.prompt.size()));
            plan.new_tokens = std::max(plan.new_tokens, r.max_new_tokens);
        }
        plan.shorter = true;
        plan.batch = s.batch;
        plan.chunk = 128;
        plan.kv_bytes = s.kv_bytes;
        Engine engine(*dev, comm, Checkpoint::open(path), plan);

        std::size_t next = 0;
        int tokens = 0;
        Feed feed{
            .next = [&]() -> std::optional<Request> {
                if (next == requests.size())
                    return {};
                out.started.push_back(requests[next].id);
                return requests[next++];
            },
            .on_token =
                [&](const Request&, TokenId) {
                    ++tokens;
                    return true;
                },
            .done =
                [&](const Request& r, const Generation& g) {
                    if (comm.rank() != 0)
                        return;
                    EXPECT_TRUE(g.finish_reason == "length" || !r.end_of_sequence.empty());
                    EXPECT_TRUE(out.tokens.emplace(r.id, g.tokens).second) << r.id << " twice";
                    out.over.push_back(r.id);
                },
            .stopped = [&] { return s.stop_after >= 0 && tokens >= s.stop_after; },
        };
        const bool all =
            serve(engine, feed, {.interleave_ms = s.interleave_ms, .prefill = {.check = true}});
        if (comm.rank() != 0)
            return;
        out.all = all;
        out.pages_left = engine.pool().in_use();
        out.high_water = engine.pool().high_water();
        out.pages = engine.pool().n_pages();
    });
    return out;
}

// Below the window, above it, whole up to C + w, cut.
const std::vector<int> kLengths{300, 10, 47, 64, 65, 120, 200, 33, 299, 50};

class SchedulerPolicies : public testing::TestWithParam<std::string> {};

TEST_P(SchedulerPolicies, GivesEachRequestTheTokensThatItHasAlone) {
    const std::vector<Request> requests = requests_of(kLengths);
    for (int ranks : {1, 2, 3}) {
        const Setting alone{.ranks = ranks, .policy = policy_named(GetParam())};
        const Served expected = serve_all(alone, requests);
        ASSERT_EQ(expected.tokens.size(), requests.size());
        for (int interleave_ms : {0, 1, 1000000}) {
            Setting together = alone;
            together.batch = 8;
            together.interleave_ms = interleave_ms;
            const Served served = serve_all(together, requests);
            EXPECT_TRUE(served.all);
            EXPECT_EQ(served.tokens, expected.tokens) << ranks << " ranks";
            EXPECT_EQ(served.pages_left, 0);
            EXPECT_LE(served.high_water, served.pages);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, SchedulerPolicies, testing::ValuesIn(policy_names()),
                         [](const auto& info) { return info.param; });

// As generate() of transformers with a min_length of one token: it bars ends from the first place alone.
TEST(Scheduler, BeginsNoAnswerWithAnEndWhereThatIsAsked) {
    std::vector<Request> requests = requests_of({300, 120});
    const Setting alone{.policy = policy_named("cake")};
    const auto free = serve_all(alone, requests).tokens;
    for (Request& r : requests)
        r.end_of_sequence = {free.at(r.id)[0], 511};
    for (const auto& [id, tokens] : serve_all(alone, requests).tokens)
        EXPECT_TRUE(tokens.empty()) << id;
    for (Request& r : requests)
        r.first_is_answer = true;
    const auto barred = serve_all(alone, requests).tokens;
    for (const Request& r : requests) {
        ASSERT_FALSE(barred.at(r.id).empty());
        for (const TokenId end : r.end_of_sequence)
            EXPECT_THAT(barred.at(r.id), testing::Not(testing::Contains(end))) << r.id;
    }
    for (int ranks : {2, 3}) {
        const Setting together{.ranks = ranks, .batch = 2, .policy = alone.policy};
        EXPECT_EQ(serve_all(together, requests).tokens, barred) << ranks << " ranks";
    }
}

TEST(Scheduler, GivesTheSameWhereRanksShareKvHeads) {
    const std::vector<Request> requests = requests_of(kLengths);
    const Setting alone{.ranks = 5, .policy = policy_named("cake")};
    Setting together = alone;
    together.batch = 4;
    EXPECT_EQ(serve_all(together, requests).tokens, serve_all(alone, requests).tokens);
}

TEST(Scheduler, LetsRequestsWaitForPagesInTheirOrder) {
    const std::vector<Request> requests = requests_of(kLengths);
    Setting s{.batch = 8, .policy = policy_named("full")};
    const Served roomy = serve_all(s, requests);

    // Room for the longest alone: others wait behind it, and nothing is lost.
    PlanInput plan;
    plan.model = read_model_config(golden_path("tiny-llama") + "/model");
    plan.policies = {s.policy};
    const PageLayout layout = page_layout(plan, shard_of(plan.model, 1, 0));
    const std::int64_t longest =
        pages_needed(s.policy, plan.model.n_layers, 300, requests[0].max_new_tokens, layout);
    s.kv_bytes = std::size_t(longest + 1) * layout.bytes();
    const Served tight = serve_all(s, requests);
    EXPECT_TRUE(tight.all);
    EXPECT_EQ(tight.tokens, roomy.tokens);
    EXPECT_EQ(tight.pages, longest + 1);
    EXPECT_LE(tight.high_water, tight.pages);
    EXPECT_EQ(tight.pages_left, 0);
    std::vector<std::string> in_order;
    for (const Request& r : requests)
        in_order.push_back(r.id);
    EXPECT_EQ(tight.started, in_order);
    EXPECT_EQ(tight.over.front(), "r0");  // the longest was first, and nobody passed it
}

TEST(Scheduler, RefusesWhatWasNotPlanned) {
    const std::vector<Request> requests = requests_of({300});
    Setting s{.policy = policy_named("full")};
    s.kv_bytes = 4096;
    EXPECT_THROW(serve_all(s, requests), Error);
}

TEST(Scheduler, DropsWhatIsNotOverWhenItIsStopped) {
    const std::vector<Request> requests = requests_of(kLengths);
    for (int ranks : {1, 2}) {
        Setting s{.ranks = ranks, .batch = 3, .policy = policy_named("cake")};
        const Served whole = serve_all(s, requests);
        for (int after : {0, 1, 20, 40}) {
            s.stop_after = after;
            const Served stopped = serve_all(s, requests);
            EXPECT_FALSE(stopped.all);
            EXPECT_LT(stopped.tokens.size(), requests.size());
            for (const auto& [id, tokens] : stopped.tokens)
                EXPECT_EQ(tokens, whole.tokens.at(id));
            EXPECT_EQ(stopped.pages_left, 0);
        }
    }
}

TEST(Scheduler, EndsAnAnswerAtItsEndOfSequenceAndWhereItsReaderSaysSo) {
    std::vector<Request> requests = requests_of({120});
    const std::vector<TokenId> whole =
        serve_all({.policy = policy_named("full")}, requests).tokens.at("r0");
    const std::string path = golden_path("tiny-llama") + "/model";
    auto dev = make_cpu_backend(1);
    auto comm = make_self_communicator();
    PlanInput plan;
    plan.model = read_model_config(path);
    plan.policies = {policy_named("full")};
    plan.prompt = 120;
    plan.new_tokens = 20;
    Engine engine(*dev, *comm, Checkpoint::open(path), plan);
    requests[0].end_of_sequence = {whole[2]};
    const Generation at_end = engine.generate(requests[0]);
    EXPECT_EQ(at_end.finish_reason, "stop");
    const auto end = std::find(whole.begin(), whole.end(), whole[2]);
    EXPECT_EQ(at_end.tokens, std::vector<TokenId>(whole.begin(), end));

    requests[0].end_of_sequence = {};
    int seen = 0;
    const Generation by_reader = engine.generate(requests[0], [&](TokenId) { return ++seen < 2; });
    EXPECT_EQ(by_reader.finish_reason, "stop");
    EXPECT_EQ(by_reader.tokens, std::vector<TokenId>(whole.begin(), whole.begin() + 2));
    EXPECT_EQ(engine.pool().in_use(), 0);
}

}  // namespace
}  // namespace cake::test
