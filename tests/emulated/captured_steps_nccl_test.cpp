// Decoding by captured steps on emulated GPUs, whose ranks speak over NCCL's stand-in: a graph is a list of closures,
// collectives among them.
#include "comm/nccl.h"
#include "emulated/captured_steps.h"
#include "simt/simt.h"
#include "support/fake_nccl/fake_nccl.h"

namespace cake::test {
namespace {

DecoderSettings over_nccl(const std::string& model, const std::string& policy) {
    return {.model = model,
            .policy = policy_named(policy),
            .connect = [](Communicator& threads, Backend& dev) {
                use_fake_gpu(threads.rank());
                return make_nccl_communicator(threads.split(0), {.cuda_stream = [&dev](Stream s) {
                                                  return cuda_queue(dev, s);
                                              }});
            }};
}

struct WithCalls : Decoded {
    std::size_t calls = 0;  // of NCCL, that have run
};

WithCalls decode_over_nccl(int ranks, const DecoderSettings& settings, const char* graphs,
                           Wanted wanted = Wanted::Logits) {
    change_fake_nccl([](FakeNccl& fake) {
        fake = {};
        fake.put = [](CUstream_st* queue, std::function<void()> work) {
            gpu::put(queue, std::move(work));
        };
    });
    WithCalls out{decode(ranks, settings, graphs, wanted)};
    out.calls = fake_nccl().calls.size();
    change_fake_nccl([](FakeNccl& fake) { fake = {}; });
    return out;
}

void expect_the_same_captured(int ranks, const std::string& model, const std::string& policy) {
    SCOPED_TRACE(fmt::format("{} with {} on {} ranks", model, policy, ranks));
    const DecoderSettings settings = over_nccl(model, policy);
    const WithCalls captured = decode_over_nccl(ranks, settings, "1"),
                    plain = decode_over_nccl(ranks, settings, "0");
    expect_the_same(captured, plain);
    EXPECT_EQ(captured.calls, plain.calls);
}

class CapturedSteps : public testing::TestWithParam<int> {};

// 40 tokens in 10 pages of 4 become 84 in 21, so tables are 10, 12, 14, 16, 20 and 24 pages wide, in batches of 1 to 3.
TEST_P(CapturedSteps, GiveTheSameLogitsWhileFullCachesGrow) {
    expect_the_same_captured(GetParam(), "tiny-llama", "full");
}

TEST_P(CapturedSteps, GiveTheSameLogitsWhileCakeEvicts) {
    expect_the_same_captured(GetParam(), "tiny-llama", "cake");
}

TEST_P(CapturedSteps, GiveTheSameLogitsWithRunningSums) {
    expect_the_same_captured(GetParam(), "tiny-llama", "h2o");
}

TEST_P(CapturedSteps, GiveTheSameLogitsWhereNothingIsObserved) {
    expect_the_same_captured(GetParam(), "tiny-llama", "streaming");
}

// Where ranks sum what they observed, a change of members is another message.
TEST_P(CapturedSteps, GiveTheSameLogitsWhereRanksSumScores) {
    expect_the_same_captured(GetParam(), "tiny-llama", "tova");
}

// One number of each sequence and rank crosses the ranks in place of all logits.
TEST_P(CapturedSteps, FindTheLikeliestTokens) {
    const DecoderSettings settings = over_nccl("tiny-llama", "h2o");
    const Decoded by_logits = decode_over_nccl(GetParam(), settings, "1"),
                  best = decode_over_nccl(GetParam(), settings, "1", Wanted::Best);
    expect_likeliest(best, by_logits);
    EXPECT_EQ(best.sent.other_calls, by_logits.sent.other_calls);
    if (GetParam() > 1) {
        EXPECT_LT(best.sent.other_bytes, by_logits.sent.other_bytes);
    }
}

TEST_P(CapturedSteps, SampleTokens) {
    const DecoderSettings settings = over_nccl("tiny-llama", "cake");
    expect_sampled(decode_over_nccl(GetParam(), settings, "1", Wanted::Sampled),
                   decode_over_nccl(GetParam(), settings, "1"));
}

INSTANTIATE_TEST_SUITE_P(, CapturedSteps, testing::Values(1, 2),
                         [](const auto& info) { return fmt::format("On{}", info.param); });

TEST(CapturedStepsOfSharers, GiveTheSameLogits) {
    expect_the_same_captured(3, "tiny-qwen2", "cake");
}

}  // namespace
}  // namespace cake::test
