// NCCL on GPUs, a rank each. Skipped where there is no GPU, no NCCL, or fewer GPUs than ranks; two ranks may share one
// where NCCL lets them (NCCL_MULTI_RANK_GPU_ENABLE). Without a GPU nccl_fake_test.cpp tests the host's part.
#include "comm/nccl.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/session.h"
#include "comm/communicator_cases.h"
#include "kernels/cuda/device.h"
#include "mpi_main.h"
#include "support/fake_device.h"

namespace cake {
namespace {

class NcclOnGpus : public testing::Test {
protected:
    void SetUp() override {
        World& world = test_world();
        RunConfig config;
        config.engine.share_gpu = nccl_shares_gpus();
        const GpuSurvey gpus = find_gpus(config, world);
        if (!gpus.everywhere || nccl_version().empty())
            GTEST_SKIP() << "no NCCL between GPUs here: no GPU, or no NCCL";
        try {
            const auto gpu = choose_gpu("auto", config.engine.share_gpu, gpus, world.local_rank());
            dev = make_cuda_backend(*gpu);
        } catch (const Error& error) {  // on all ranks of a host
            why_not = error.what();
        }
        const auto all = world.comm().gather_strings(why_not);
        why_not = *std::max_element(all.begin(), all.end());
        if (!why_not.empty())
            GTEST_SKIP() << "no NCCL between GPUs here: " << why_not;
        nccl = make_nccl_communicator(
            world.comm().split(0), {.cuda_stream = [this](Stream s) { return cuda_queue(*dev, s); },
                                    .while_waiting =
                                        [this](std::function<void()> look) {
                                            return cuda_while_waiting(*dev, std::move(look));
                                        }});
    }

    // For values in host memory.
    std::unique_ptr<Communicator> over_nccl() {
        return on_device(nccl->split(0),
                         [this](std::size_t n) { return dev->allocate(n, Place::Device); },
                         {.pinned = {},
                          .copy = [this](Stream s, View to, View from) { dev->copy(s, to, from); },
                          .synchronize = [this](Stream s) { dev->synchronize(s); }});
    }

    std::string why_not;
    std::unique_ptr<Backend> dev;
    std::unique_ptr<Communicator> nccl;
};

class NcclOnGpusContract : public NcclOnGpus, public testing::WithParamInterface<NamedCase> {};

TEST_P(NcclOnGpusContract, Keeps) { GetParam().run(*over_nccl()); }

INSTANTIATE_TEST_SUITE_P(Contract, NcclOnGpusContract,
                         testing::ValuesIn(cases_whatever_the_order()),
                         [](const auto& info) { return info.param.name; });

// Ones of every rank, summed in place: R, then R * R, ...
class NcclSums : public NcclOnGpus {
protected:
    void expect_sums(View x, int times, const std::function<void()>& sum_once) {
        std::vector<float> host(std::size_t(x.elements()), 1.0f);
        dev->copy({}, x, view_of(host));
        float expected = 1;
        for (int i = 0; i < times; ++i) {
            sum_once();
            expected *= float(nccl->size());
        }
        dev->copy({}, view_of(host), x);
        dev->synchronize({});
        EXPECT_THAT(host, testing::Each(expected));
    }
};

TEST_F(NcclSums, RunInSymmetricMemoryWhereThereIsSome) {
    const Buffer memory = nccl_symmetric_memory(*nccl, {{Stream{}}}, 4096 * sizeof(float));
    if (!memory.data())
        GTEST_SKIP() << "NCCL " << nccl_version() << " gives none on this machine";
    const View x(memory.data(), DType::F32, Shape{4096});
    expect_sums(x, 3, [&] { nccl->all_reduce_sum({}, x); });
}

TEST_F(NcclSums, RunInTwoStreamsOneAfterAnother) {
    const Tensor x = dev->tensor(DType::F32, {1000});
    int index = 0;
    expect_sums(x, 4, [&] {
        const Stream one{index}, other{index = 1 - index};
        nccl->all_reduce_sum(one, x);
        dev->wait(other, dev->record(one));
    });
}

TEST_F(NcclSums, CanBeCapturedInAGraph) {
    const Tensor x = dev->tensor(DType::F32, {1000});
    nccl->all_reduce_sum({}, x);  // what is made on first use is made before
    dev->synchronize({});
    const gpu::Queue queue = cuda_queue(*dev, {});
    gpu::begin_capture(queue);
    nccl->all_reduce_sum({}, x);
    const gpu::OwnedGraph graph = gpu::end_capture(queue);
    expect_sums(x, 3, [&] { gpu::replay(queue, graph); });
}

}  // namespace
}  // namespace cake
