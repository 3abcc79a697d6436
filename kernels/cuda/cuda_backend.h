// The CUDA backend. Host code alone: it checks shapes and types, and reaches the device through device.h and the launchers
// (one header a kernel family), both of which the emulation on the host has too. Kernels of a family are in its .cu.
#pragma once

#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/cuda_pool.h"
#include "kernels/cuda/cudnn_attention.h"
#include "kernels/cuda/device.h"

namespace cake {

// For one GPU and one thread: what calls its methods later is the thread that made it.
class CudaBackend final : public Backend {
public:
    // activations: BF16 or F32, of x, q, out, ... and of weights of linear layers.
    CudaBackend(int device, DType activations, int ranks = 1);
    ~CudaBackend() override;

    std::string name() const override { return "cuda"; }
    DeviceInfo info() const override;
    ComputeTypes types() const override { return {activations_, activations_, true}; }
    // cuda_ceilings.cpp
    Ceilings ceilings() override;

    // cuda_memory.cpp
    void reserve(std::size_t bytes, std::size_t work_bytes) override;
    Buffer allocate(std::size_t bytes, Place place) override;
    void copy(Stream s, View to, View from) override;
    void fill_zero(Stream s, View x) override;
    void fill_random(Stream s, const RandomMatrix& matrix, std::int64_t row, std::int64_t column,
                     View out) override;
    void synchronize(Stream s) override;
    Event record(Stream s) override;
    void wait(Stream s, Event e) override;
    std::optional<double> seconds_between(const Event& begin, const Event& end) override;
    // As a CUDA graph, which keeps the scratch that it was captured with. Not where CAKE_GRAPHS is 0 in the environment, nor
    // where CAKE_SYNC wants to wait for each kernel.
    std::function<void()> capture(Stream s, const std::function<void()>& work) override;

    // cuda_block.cpp
    void embed(Stream s, View ids, View table, std::int64_t first_row, View out) override;
    void rms_norm(Stream s, View x, View weight, float eps, View out) override;
    void add_rms_norm(Stream s, View x, View delta, View weight, float eps, View out) override;
    void add(Stream s, View x, View delta) override;
    void silu_mul(Stream s, View gate_up, View out) override;
    std::int64_t exact_rows() const override;
    void linear(Stream s, View x, const LinearWeights& w, View out) override;

    // cuda_rope.cpp
    void rope_split(Stream s, View qkv, View inv_freq, float scale, std::int64_t first, View q,
                    View k, View v) override;
    void rope_append(Stream s, View qkv, View inv_freq, float scale, int layer,
                     const PagedBatch& kv, View q) override;

    // cuda_page_lists.cpp
    void store_tokens(Stream s, View k, View v, std::int64_t first, std::int64_t count, View keep,
                      View running, const PageList& to) override;
    void order_slots(Stream s, const PageList& pages, int length, int window,
                     DecodeOrder order) override;
    void list_positions(Stream s, const PageList& pages, int length, View out) override;
    void init_page(Stream s, const PageList& pages, int index) override;

    // cuda_attention.cpp
    void attention(Stream s, View q, View k, View v, std::int64_t first, View out) override;

    // cuda_columns.cpp
    void column_sums(Stream s, View q, View k, std::int64_t first, View sums) override;

    // cuda_decode.cpp
    void begin_step(Stream s, const PagedBatch& kv) override;
    void decode_attention(Stream s, View q, int layer, const PagedBatch& kv,
                          const RaggedRows& probs, View out) override;
    void decode_scores(Stream s, const PagedBatch& kv, const RaggedRows& probs, int window,
                       int pool, float divisor, const RaggedRows& scores) override;
    void decode_means(Stream s, const PagedBatch& kv, const RaggedRows& probs, float divisor,
                      const RaggedRows& means) override;
    void add_running(Stream s, const PagedBatch& kv, const RaggedRows& means) override;
    void decode_evict(Stream s, const PagedBatch& kv, const RaggedRows& scores, int window,
                      DecodeOrder order) override;

    // cuda_window.cpp
    void window_moments(Stream s, View q, View k, std::int64_t n_tokens, DType round_to, View mean,
                        View variance, View sums) override;
    void column_scores(Stream s, View mean, View variance, ColumnScore score, float gamma, int pool,
                       View out) override;
    void group_mean(Stream s, View x, float divisor, View out) override;
    void top_k(Stream s, View score, View keep) override;
    void argmax(Stream s, View x, std::int64_t first, View best) override;
    void sample(Stream s, View x, int parts, View draws, View tokens) override;

    gpu::Queue queue(Stream s);
    std::shared_ptr<void> while_waiting(std::function<void()> look);

private:
    // The data of a tensor of activations, after a check of its type.
    void* activation(View x) const;
    // Device memory for the kernels of one method, until the next call for this stream; null for no bytes. What grew too small
    // is given back, after all that is in the stream is done.
    void* scratch(Stream s, std::size_t bytes);
    // The same, null too where there is not enough.
    void* scratch_or_null(Stream s, std::size_t bytes);

    int device_, ranks_;
    DType activations_;
    bool captures_, capturing_ = false;
    std::shared_ptr<CudaPool> pool_;                // lives as long as what was allocated
    std::vector<gpu::OwnedQueue> queues_;           // by Stream::index, made when first used
    std::vector<std::shared_ptr<Buffer>> scratch_;  // likewise; shared with what was captured
    // Events come back to it with the last copy of what record() returned.
    std::shared_ptr<std::vector<gpu::OwnedEvent>> idle_events_ =
        std::make_shared<std::vector<gpu::OwnedEvent>>();
    std::vector<std::weak_ptr<std::function<void()>>> looks_;  // of while_waiting()
    gpu::Gemm gemm_;
    gpu::CudnnAttention cudnn_;
};

std::unique_ptr<Backend> make_cuda_backend(int device, DType activations, int ranks = 1);
// Usage error where the GPU is too old for the kernels.
void check_capability(int device, const gpu::DeviceProperties& properties);

}  // namespace cake
