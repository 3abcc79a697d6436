// What the plan says of a GPU's memory against what a run took of it.
#include <gtest/gtest.h>

#include "comm/staged.h"
#include "engine/engine.h"
#include "engine/gpu_work.h"
#include "kernels/cuda/device.h"
#include "support/golden.h"

namespace cake::test {
namespace {

class EmulatedMemory : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(, EmulatedMemory, testing::Values("full", "cake", "h2o"),
                         [](const auto& info) { return std::string(info.param); });

// Without the work space of matrix products, which is far larger than this model.
TEST_P(EmulatedMemory, IsWhatThePlanSaysWithinFivePercent) {
    RunConfig run;
    run.model.path = golden_path("tiny-llama") + "/model";
    run.policy.name = GetParam();
    run.policy.cache_size = 64;
    run.policy.window = 16;
    run.engine.prefill_chunk = 128;
    const auto dev = make_cuda_backend(0);
    const auto self = make_staged_communicator(
        make_self_communicator(),
        {.pinned = [&](std::size_t bytes) { return dev->allocate(bytes, Place::Pinned); },
         .copy = [&](Stream stream, View to, View from) { dev->copy(stream, to, from); },
         .synchronize = [&](Stream stream) { dev->synchronize(stream); }});
    const ModelConfig model = read_model_config(run.model.path);
    Request request;
    request.prompt.assign(400, 7);
    request.max_new_tokens = 4;
    const PlanInput plan =
        plan_input(run, model, 1, int(request.prompt.size()), request.max_new_tokens, dev->types());
    Engine engine(*dev, *self, Checkpoint::open(run.model.path), plan);
    EXPECT_EQ(engine.generate(request).tokens.size(), 4u);
    const std::size_t planned = plan_rank(plan, 0).total() - gpu::gemm_work_bytes,
                      taken = dev->info().peak_bytes - gpu::gemm_work_bytes;
    EXPECT_LE(taken, planned);
    EXPECT_GE(taken * 20, planned * 19) << taken << " of " << planned << " bytes";
}

}  // namespace
}  // namespace cake::test
