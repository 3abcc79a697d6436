// Decoding on the CUDA backend: attention over pages, and eviction from them.
//
// Lengths, budgets and offsets lie in device memory, so what depends on them is the caller's to keep: blocks of ragged rows
// are as large as the contract says.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_pages.h"
#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/decode_evict.h"
#include "kernels/cuda/decode_scores.h"

namespace cake {

namespace {

gpu::RaggedBlocks ragged(const RaggedRows& rows, const PagedBatch& kv) {
    CAKE_CHECK(rows.offsets.elements() == kv.lengths.elements(), "{} offsets for {} lengths",
               rows.offsets.elements(), kv.lengths.elements());
    return {rows.data.as<float>(), rows.offsets.as<std::int64_t>()};
}

// Query heads of a KV head's group.
int group_of(const PagedBatch& kv, const RaggedRows& probs) {
    CAKE_CHECK(probs.data.shape().rank() == 2 && probs.data.dim(0) % kv.layout.n_kv == 0,
               "probabilities {} do not say how many query heads share {} KV heads",
               probs.data.shape().str(), kv.layout.n_kv);
    return int(probs.data.dim(0)) / kv.layout.n_kv;
}

}  // namespace

void CudaBackend::begin_step(Stream s, const PagedBatch& kv) {
    gpu::begin_step(queue(s), cache_batch(kv));
}

void CudaBackend::decode_attention(Stream s, View q, int layer, const PagedBatch& kv,
                                   const RaggedRows& probs, View out) {
    constexpr int most_of_a_head = 512;
    const int batch = kv.batch(), n_kv = kv.layout.n_kv, d_head = kv.layout.d_head;
    const int n_q = int(q.dim(1));
    CAKE_CHECK(
        q.dim(0) == batch && q.dim(2) == d_head && out.shape() == q.shape() && n_q % n_kv == 0,
        "queries {} into {}, a batch of {} with {} KV heads of {}", q.shape().str(),
        out.shape().str(), batch, n_kv, d_head);
    CAKE_CHECK(d_head % 2 == 0 && d_head <= most_of_a_head, "heads of {} elements", d_head);
    const gpu::CacheBatch cache = cache_batch(kv);
    gpu::DecodeAttentionTask task{
        .dtype = activations_, .q = activation(q), .out = activation(out), .n_q = n_q};
    if (probs.data && probs.offsets) {
        const gpu::RaggedBlocks rows = ragged(probs, kv);
        task.probs = rows.data;
        task.offsets = rows.offsets + std::int64_t(layer) * batch;
    }
    task.partials = static_cast<float*>(scratch(
        s,
        bytes_of(DType::F32, gpu::decode_partial_floats(batch, n_q, d_head, cache.most_slots()))));
    gpu::decode_attention(queue(s), task, layer, cache);
}

void CudaBackend::decode_scores(Stream s, const PagedBatch& kv, const RaggedRows& probs, int window,
                                int pool, float divisor, const RaggedRows& scores) {
    CAKE_CHECK(pool > 0 && pool % 2 == 1, "a pool of {} has no middle", pool);
    const int n_kv = kv.layout.n_kv, n_rows = int(scores.data.dim(0));
    CAKE_CHECK(n_rows == n_kv || n_rows == 1, "{} rows of scores for {} KV heads", n_rows, n_kv);
    CAKE_CHECK(probs.data.data() != scores.data.data(),
               "scores over the probabilities that they come from");
    gpu::decode_scores(queue(s),
                       {.probs = ragged(probs, kv),
                        .scores = ragged(scores, kv),
                        .group = group_of(kv, probs),
                        .rows = n_rows,
                        .window = window,
                        .pool = pool,
                        .divisor = double(divisor)},
                       cache_batch(kv));
}

void CudaBackend::decode_means(Stream s, const PagedBatch& kv, const RaggedRows& probs,
                               float divisor, const RaggedRows& means) {
    gpu::decode_means(queue(s), ragged(probs, kv), group_of(kv, probs), double(divisor),
                      ragged(means, kv), cache_batch(kv));
}

void CudaBackend::add_running(Stream s, const PagedBatch& kv, const RaggedRows& means) {
    CAKE_CHECK(kv.layout.running, "pages without room for running sums");
    gpu::add_running(queue(s), ragged(means, kv), cache_batch(kv));
}

void CudaBackend::decode_evict(Stream s, const PagedBatch& kv, const RaggedRows& scores, int window,
                               DecodeOrder order) {
    const int n_kv = kv.layout.n_kv, n_rows = scores.data ? int(scores.data.dim(0)) : 0;
    CAKE_CHECK(n_rows == n_kv || n_rows == 1 || (n_rows == 0 && kv.layout.running),
               "{} rows of scores for {} KV heads, and pages {} running sums", n_rows, n_kv,
               kv.layout.running ? "with" : "without");
    const gpu::CacheBatch cache = cache_batch(kv);
    gpu::decode_evict(queue(s),
                      {.scores = n_rows > 0 ? ragged(scores, kv) : gpu::RaggedBlocks(),
                       .rows = n_rows,
                       .window = window,
                       .best_first = order == DecodeOrder::Official,
                       .work = static_cast<std::byte*>(
                           scratch(s, gpu::decode_evict_bytes(cache.heads(), cache.most_slots())))},
                      cache);
}

}  // namespace cake
