// As golden_test.cpp, on ranks that are processes: what they exchange leaves device memory through pinned memory.
#include <gtest/gtest.h>

#include "kernels/cuda/cuda_backend.h"
#include "mpi_main.h"
#include "support/golden_checks.h"

namespace cake::test {
namespace {

TEST(EmulatedEngineMpi, AnswersAndKeepsAsTheOfficialCode) {
    Communicator& comm = test_world().comm();
    for (const std::string model : {"tiny-llama", "tiny-qwen2"}) {
        SCOPED_TRACE(model);
        const Golden golden(model);
        const RunPrompt run = [&](std::span<const TokenId> prompt, std::vector<Policy> policies,
                                  std::vector<std::vector<TokenId>> answers) {
            RunSettings s;
            s.model = golden.model_path();
            s.policies = std::move(policies);
            s.prompt.assign(prompt.begin(), prompt.end());
            s.answers = std::move(answers);
            s.new_tokens = 32;
            s.backend = [] { return make_cuda_backend(0, DType::F32); };
            return run_model(comm, s);
        };
        expect_official_answers(golden, {}, run);
        expect_official_evictions(golden, {}, run, [](const nlohmann::json& record) {
            return record["tag"] == "p120_c96_casc" || record["tag"] == "p300_c48_casc";
        });
    }
}

}  // namespace
}  // namespace cake::test
