// Decoding by captured steps of one rank, whose collectives are none: on an emulated GPU, and on a real one.
#include "emulated/captured_steps.h"

#include "comm/staged.h"

namespace cake::test {
namespace {

// Emulated GPUs have the rest over NCCL's stand-in, on one rank too (captured_steps_nccl_test.cpp).
#ifdef CAKE_TESTS_ON_GPU
const std::vector<DType> kTypes = {DType::F32, DType::BF16};
const std::vector<std::string> kPolicies = {"full", "cake", "h2o", "streaming", "tova"};
#else
const std::vector<DType> kTypes = {DType::BF16};
const std::vector<std::string> kPolicies = {"cake"};
#endif

class CapturedStepsAlone : public testing::TestWithParam<DType> {
protected:
    static DecoderSettings settings(const std::string& policy) {
        return {.model = "tiny-llama",
                .policy = policy_named(policy),
                .type = GetParam(),
                .connect = [](Communicator& threads, Backend& dev) {
                    return make_staged_communicator(
                        threads.split(0),
                        {.pinned = [&dev](std::size_t n) { return dev.allocate(n, Place::Pinned); },
                         .copy = [&dev](Stream s, View to, View from) { dev.copy(s, to, from); },
                         .synchronize = [&dev](Stream s) { dev.synchronize(s); }});
                }};
    }
};

TEST_P(CapturedStepsAlone, GiveTheSameLogits) {
    for (const std::string& policy : kPolicies) {
        SCOPED_TRACE(policy);
        expect_the_same(decode(1, settings(policy), "1"), decode(1, settings(policy), "0"));
    }
}

TEST_P(CapturedStepsAlone, FindTheLikeliestTokens) {
    expect_likeliest(decode(1, settings("h2o"), "1", Wanted::Best),
                     decode(1, settings("h2o"), "1"));
}

TEST_P(CapturedStepsAlone, SampleTokens) {
    expect_sampled(decode(1, settings("cake"), "1", Wanted::Sampled),
                   decode(1, settings("cake"), "1"));
}

INSTANTIATE_TEST_SUITE_P(, CapturedStepsAlone, testing::ValuesIn(kTypes),
                         [](const auto& info) { return std::string(name(info.param)); });

}  // namespace
}  // namespace cake::test
