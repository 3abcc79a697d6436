// The CPU backend: oneDNN for large matrix products, own kernels for the rest. All streams are one; what is called
// has run on return. Kernels live one family a file as methods of this class.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace cake {

class CpuBackend final : public Backend {
public:
    explicit CpuBackend(int threads);
    ~CpuBackend() override;

    std::string name() const override { return "cpu"; }
    DeviceInfo info() const override;
    ComputeTypes types() const override { return {}; }

    // ceilings.cpp
    Ceilings ceilings() override;

    // memory.cpp
    void reserve(std::size_t, std::size_t) override {}
    Buffer allocate(std::size_t bytes, Place place) override;
    void copy(Stream s, View to, View from) override;
    void fill_zero(Stream s, View x) override;
    void synchronize(Stream) override {}
    Event record(Stream) override { return {.at = std::chrono::steady_clock::now()}; }
    void wait(Stream, Event) override {}
    std::function<void()> capture(Stream, const std::function<void()>&) override { return {}; }
    std::optional<double> seconds_between(const Event& begin, const Event& end) override {
        return std::chrono::duration<double>(end.at - begin.at).count();
    }

    // random.cpp
    void fill_random(Stream s, const RandomMatrix& matrix, std::int64_t row, std::int64_t column,
                     View out) override;

    // norm.cpp: embed, rms_norm, add_rms_norm, add, silu_mul
    void embed(Stream s, View ids, View table, std::int64_t first_row, View out) override;
    void rms_norm(Stream s, View x, View weight, float eps, View out) override;
    void add_rms_norm(Stream s, View x, View delta, View weight, float eps, View out) override;
    void add(Stream s, View x, View delta) override;
    void silu_mul(Stream s, View gate_up, View out) override;

    // linear.cpp
    std::int64_t exact_rows() const override;
    void linear(Stream s, View x, const LinearWeights& w, View out) override;

    // rope.cpp
    void rope_split(Stream s, View qkv, View inv_freq, float scale, std::int64_t first, View q,
                    View k, View v) override;
    void rope_append(Stream s, View qkv, View inv_freq, float scale, int layer,
                     const PagedBatch& kv, View q) override;

    // attention.cpp
    void attention(Stream s, View q, View k, View v, std::int64_t first, View out) override;

    // window.cpp
    void window_moments(Stream s, View q, View k, std::int64_t n_tokens, DType round_to, View mean,
                        View variance, View sums) override;
    void column_scores(Stream s, View mean, View variance, ColumnScore score, float gamma, int pool,
                       View out) override;
    void group_mean(Stream s, View x, float divisor, View out) override;

    // columns.cpp
    void column_sums(Stream s, View q, View k, std::int64_t first, View sums) override;

    // select.cpp
    void top_k(Stream s, View score, View keep) override;
    void argmax(Stream s, View x, std::int64_t first, View best) override;

    // sample.cpp
    void sample(Stream s, View x, int parts, View draws, View tokens) override;

    // pages.cpp
    void store_tokens(Stream s, View k, View v, std::int64_t first, std::int64_t count, View keep,
                      View running, const PageList& to) override;
    void order_slots(Stream s, const PageList& pages, int length, int window,
                     DecodeOrder order) override;
    void list_positions(Stream s, const PageList& pages, int length, View out) override;
    void init_page(Stream s, const PageList& pages, int index) override;

    // decode_attention.cpp
    void begin_step(Stream s, const PagedBatch& kv) override;
    void decode_attention(Stream s, View q, int layer, const PagedBatch& kv,
                          const RaggedRows& probs, View out) override;

    // decode_scores.cpp
    void decode_scores(Stream s, const PagedBatch& kv, const RaggedRows& probs, int window,
                       int pool, float divisor, const RaggedRows& scores) override;
    void decode_means(Stream s, const PagedBatch& kv, const RaggedRows& probs, float divisor,
                      const RaggedRows& means) override;
    void add_running(Stream s, const PagedBatch& kv, const RaggedRows& means) override;

    // decode_evict.cpp
    void decode_evict(Stream s, const PagedBatch& kv, const RaggedRows& scores, int window,
                      DecodeOrder order) override;

private:
    struct Dnnl;  // engine, stream, primitives by shape
    int threads_;
    std::unique_ptr<Dnnl> dnnl_;
};

}  // namespace cake
