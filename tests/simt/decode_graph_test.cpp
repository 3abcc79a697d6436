// A step of decoding that was captured once, replayed.
#include <gmock/gmock.h>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_pages.h"
#include "kernels/cuda/decode_attention.h"
#include "support/paged_cache.h"

namespace cake {
namespace {

TEST(DecodeGraph, StaysValidWhileLengthsChange) {
    constexpr int kBatch = 2, kQueries = 4, kHeads = 2, kHead = 16, kSlots = 300;
    const auto dev = make_cuda_backend(0, DType::F32);
    const PageLayout layout{kHeads, 16, kHead, DType::F32};
    test::PagedCache cache(*dev, layout, 1, kBatch, layout.pages_for(kSlots));
    const auto rows = random_values(2 * kBatch * kHeads * kSlots * kHead, 1);
    const float* row = rows.data();
    for (int b = 0; b < kBatch; ++b)
        for (int g = 0; g < kHeads; ++g)
            for (int slot = 0; slot < kSlots; ++slot, row += 2 * kHead)
                cache.set_slot(0, b, g, slot, row, row + kHead);
    cache.push();
    cache.set_lengths({253, 6});  // the first crosses the edge of a split, at 256
    cache.set_positions({500, 6});

    const Tensor q =
        upload(*dev, random_values(kBatch * kQueries * kHead, 2), {kBatch, kQueries, kHead});
    const Tensor out = dev->tensor(DType::F32, q.shape()),
                 again = dev->tensor(DType::F32, q.shape());
    const gpu::CacheBatch kv = cache_batch(cache.batch());
    const Tensor partials = dev->tensor(
        DType::F32, {gpu::decode_partial_floats(kBatch, kQueries, kHead, kv.most_slots())});
    const gpu::OwnedQueue queue = gpu::make_queue();
    gpu::begin_capture(queue.get());
    gpu::begin_step(queue.get(), kv);
    gpu::decode_attention(queue.get(),
                          {.dtype = DType::F32,
                           .q = q.view().data(),
                           .out = out.view().data(),
                           .n_q = kQueries,
                           .probs = nullptr,
                           .offsets = nullptr,
                           .partials = partials.view().as<float>()},
                          0, kv);
    const gpu::OwnedGraph graph = gpu::end_capture(queue.get());

    for (int step = 1; step <= 6; ++step) {
        gpu::replay(queue.get(), graph);
        gpu::synchronize(queue.get());
        EXPECT_THAT(cache.lengths(), testing::ElementsAre(253 + step, 6 + step));
        dev->decode_attention({}, q, 0, cache.batch(), {}, again);
        EXPECT_EQ(download<float>(*dev, out), download<float>(*dev, again)) << "step " << step;
    }
}

}  // namespace
}  // namespace cake
