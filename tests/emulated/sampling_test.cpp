// Sampled answers: the device draws the tokens that the host's sampler would, in any company and on any number of ranks.
#include <map>

#include <gmock/gmock.h>

#include "comm/staged.h"
#include "engine/scheduler.h"
#include "kernels/cuda/cuda_backend.h"
#include "support/run_model.h"
#include "support/thread_comm.h"

namespace cake::test {
namespace {

using Tokens = std::map<std::string, std::vector<TokenId>>;  // by request

struct Device {
    std::string name;
    std::unique_ptr<Backend> (*make)();
    DType type;
};

const std::vector<Device> kDevices = {
    {"cpu", [] { return make_cpu_backend(1); }, DType::F32},
    {"f32", [] { return make_cuda_backend(0, DType::F32); }, DType::F32},
    {"bf16", [] { return make_cuda_backend(0, DType::BF16); }, DType::BF16}};

Request request(const std::string& id, const Sampling& sampling, int tokens = 7) {
    Request r;
    r.id = id;
    r.prompt = Golden("tiny-llama").prompt("p300");
    r.prompt.resize(8 + id.size());
    r.max_new_tokens = tokens;
    r.sampling = sampling;
    return r;
}

std::vector<Request> sampled_requests() {
    return {request("plain", {.temperature = 1, .seed = 1}),
            request("top-k", {.temperature = 1, .seed = 3, .top_k = 20}),
            request("top-p", {.temperature = 1.2, .top_p = 0.8, .seed = 4}, 5),
            request("all of them",
                    {.temperature = 1.3, .top_p = 0.9, .seed = 6, .top_k = 50, .min_p = 0.01})};
}

// Log-probabilities are the host's to find, so it has all logits and samples by them.
std::vector<Request> on_the_host(std::vector<Request> requests) {
    for (Request& r : requests)
        r.sampling.logprobs = 1;
    return requests;
}

struct Served {
    Tokens tokens;
    // What lies in the pinned memory that logits have, where they reach the host: after the last step.
    std::vector<std::byte> reached_host;
};

Served serve_all(const Device& device, int ranks, int batch, const std::vector<Request>& requests) {
    Served out;
    run_ranks(ranks, [&](Communicator& comm) {
        const std::string path = Golden("tiny-llama").model_path();
        auto dev = device.make();
        const auto group = make_staged_communicator(
            comm.split(0),
            {.pinned = [&](std::size_t bytes) { return dev->allocate(bytes, Place::Pinned); },
             .copy = [&](Stream s, View to, View from) { dev->copy(s, to, from); },
             .synchronize = [&](Stream s) { dev->synchronize(s); }});
        PlanInput plan;
        plan.model = read_model_config(path);
        plan.policies = {full_policy()};
        plan.ranks = comm.size();
        plan.prompt = 24;
        plan.new_tokens = 7;
        plan.shorter = true;
        plan.batch = batch;
        plan.weights = device.type;
        plan.cache = plan.activation = plan.residual = device.type;
        Engine engine(*dev, *group, Checkpoint::open(path), plan);
        std::size_t next = 0;
        const Feed feed{
            .next = [&]() -> std::optional<Request> {
                if (next == requests.size())
                    return {};
                return requests[next++];
            },
            .done =
                [&](const Request& r, const Generation& g) {
                    if (comm.rank() == 0)
                        out.tokens[r.id] = g.tokens;
                },
        };
        EXPECT_TRUE(serve(engine, feed));
        if (comm.rank() == 0) {
            const View host = engine.workspace().host_logits;
            const auto* bytes = static_cast<const std::byte*>(host.data());
            out.reached_host.assign(bytes, bytes + host.bytes());
        }
    });
    return out;
}

class DeviceSampling : public testing::TestWithParam<Device> {};

TEST_P(DeviceSampling, GivesTheTokensOfTheHostsSampler) {
    for (const int ranks : {1, 2, 3}) {
        SCOPED_TRACE(fmt::format("{} ranks", ranks));
        const Tokens on_device = serve_all(GetParam(), ranks, 1, sampled_requests()).tokens;
        EXPECT_EQ(on_device.size(), sampled_requests().size());
        EXPECT_EQ(on_device,
                  serve_all(GetParam(), ranks, 1, on_the_host(sampled_requests())).tokens);
    }
}

TEST_P(DeviceSampling, SendsTheHostNothingButTokens) {
    const Request one = request("one", {.temperature = 1, .seed = 9});
    for (const int ranks : {1, 2}) {
        const Served served = serve_all(GetParam(), ranks, 1, {one});
        TokenId token = -1;
        std::memcpy(&token, served.reached_host.data(), sizeof(token));
        EXPECT_EQ(token, served.tokens.at("one").back());
        // Beyond it, what the prompt left there.
        const Served prompt_alone = serve_all(GetParam(), ranks, 1, {request("one", {}, 1)});
        EXPECT_TRUE(std::equal(served.reached_host.begin() + sizeof(token),
                               served.reached_host.end(),
                               prompt_alone.reached_host.begin() + sizeof(token)));
        // Greedy tokens come by key, and log-probabilities take all logits.
        const Served on_host = serve_all(GetParam(), ranks, 1, on_the_host({one}));
        EXPECT_NE(on_host.reached_host, prompt_alone.reached_host);
    }
}

TEST_P(DeviceSampling, GivesEachTheSameInAnyCompany) {
    if (GetParam().type != DType::F32)
        GTEST_SKIP() << "on a GPU a row's logits depend on the number of rows";
    const std::vector<Request> sampled = sampled_requests();
    std::vector<Request> greedy_too = sampled;
    greedy_too.insert(greedy_too.begin() + 1, request("greedy", {}));
    std::vector<Request> host_too = greedy_too;
    host_too.insert(host_too.begin() + 3,
                    request("penalised", {.temperature = 1, .seed = 7, .repetition_penalty = 1.3}));
    const Tokens alone = serve_all(GetParam(), 2, 1, host_too).tokens;
    for (const auto& requests : {sampled, greedy_too, host_too}) {
        Tokens expected;
        for (const Request& r : requests)
            expected[r.id] = alone.at(r.id);
        EXPECT_EQ(serve_all(GetParam(), 2, 3, requests).tokens, expected);
    }
}

// Sums over ranks round: in F32 by far less than what any of these random numbers is off from the next token.
TEST_P(DeviceSampling, GivesTheSameOnAnyNumberOfRanks) {
    if (GetParam().type != DType::F32)
        GTEST_SKIP() << "BF16 sums of two ranks are others than of one";
    const Tokens one = serve_all(GetParam(), 1, 3, sampled_requests()).tokens;
    for (const int ranks : {2, 3})
        EXPECT_EQ(serve_all(GetParam(), ranks, 3, sampled_requests()).tokens, one) << ranks;
}

INSTANTIATE_TEST_SUITE_P(, DeviceSampling, testing::ValuesIn(kDevices),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace cake::test
