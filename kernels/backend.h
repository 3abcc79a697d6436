// Where to compute: memory, streams, and the kernels, each with its contract. Implemented for the CPU (kernels/cpu) and,
// where it was compiled, for CUDA (kernels/cuda). tests/support/reference.h judges every kernel in double precision.
//
// In all contracts: tensors are device memory of this backend, row-major and contiguous; activations are
// the backend's activation type (F32 on the CPU, BF16 on a GPU); sums are F32 or better; row r of a result depends on row r
// of the inputs alone and not on how many rows there are (row independence: batches do not change results).
// Counts are of this rank: n_q query heads, n_kv KV heads, group = n_q / n_kv, query head h reads KV head h / group.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/random_matrix.h"
#include "base/stream.h"
#include "base/tensor.h"
#include "kernels/kv_pages.h"

struct CUstream_st;

namespace cake {

struct DeviceInfo {
    std::string name;  // "Intel(R) Xeon(R) ...", "NVIDIA H100 ..."
    std::size_t memory_bytes = 0;
    std::size_t free_bytes = 0;
    int threads = 0;          // CPU threads this backend computes with
    bool own_memory = false;  // not the host's, which all its ranks share
    int ranks = 1;            // of own memory: those that share it
    // Of own memory: the most that this backend had allocated at a time since reserve(), and all that is in use on the device
    // now, by whomever.
    std::size_t peak_bytes = 0, used_bytes = 0;
};

// What the device reaches at best, measured: what figures are held against.
struct Ceilings {
    double read_gb_s = 0;     // 1e9 bytes a second, of memory far larger than any cache
    double gemm_tflop_s = 0;  // of the backend's activation type; on the CPU 2048 x 2048 x 2048
};

// A linear layer's parameters: weight [out, in] of any type of weights (is_weight_type); bias [out] of the type of the
// layer's output, or empty.
struct LinearWeights {
    View weight;
    View bias;
};

// In which types a backend computes: what memory is planned and weights are loaded by.
struct ComputeTypes {
    DType activation = DType::F32;  // of activations, biases and the residual stream
    // What weights of linear layers have to be; nothing: any type, so they stay as the file has them.
    std::optional<DType> weights;
    bool gpu =
        false;  // kernels work in device memory beside what they are given (engine/gpu_work.h)
};
inline constexpr ComputeTypes gpu_types{DType::BF16, DType::BF16, true};

// How one past token is scored from the moments of its attention column over the window's rows.
enum class ColumnScore : std::uint8_t { Mean, Variance, MeanPlusVariance, Product };

class Backend {
public:
    virtual ~Backend() = default;
    virtual std::string name() const = 0;  // "cpu", "cuda"
    virtual DeviceInfo info() const = 0;
    virtual ComputeTypes types() const = 0;
    // Takes a second or two, and 300 MiB; on a GPU 1 GiB.
    virtual Ceilings ceilings() = 0;

    // ---- memory -------------------------------------------------------------------------------------------------
    // Before a model is loaded: takes `bytes` of device memory in one piece, out of which allocate() gives from now on, and
    // sets `work_bytes` of them aside for kernels, so that nothing is allocated while these run. Throws an Error of usage
    // where the device has less. The CPU takes nothing ahead.
    virtual void reserve(std::size_t bytes, std::size_t work_bytes) = 0;
    // Not initialised, aligned to 64 bytes or better. Throws Error with the size where there is not enough. What is freed
    // may be given out again at once: work that still uses it is done, or in the stream of the next use.
    virtual Buffer allocate(std::size_t bytes, Place place) = 0;
    Tensor tensor(DType dtype, Shape shape, Place place = Place::Device) {
        return Tensor(allocate(bytes_of(dtype, shape.elements()), place), dtype, shape);
    }
    // Same dtype and number of elements; between any places. Ordered in the stream; host memory that it touches, pinned or
    // not, is left alone and lives until the stream gets there.
    virtual void copy(Stream s, View to, View from) = 0;
    virtual void fill_zero(Stream s, View x) = 0;
    // A slice of a matrix of random numbers: out[i, j] = matrix.at(row + i, column + j), rounded to nearest even; the same
    // bits on every backend.  out: [n, m], of F32 or BF16, on the CPU of F16 too.
    virtual void fill_random(Stream s, const RandomMatrix& matrix, std::int64_t row,
                             std::int64_t column, View out) = 0;

    // ---- order --------------------------------------------------------------------------------------------------
    virtual void synchronize(Stream s) = 0;
    virtual Event record(Stream s) = 0;
    virtual void wait(Stream s, Event e) = 0;
    // From one event to a later one; nothing where the device has not come to that yet.
    virtual std::optional<double> seconds_between(const Event& begin, const Event& end) = 0;

    // Calls `work` once without running what it puts into the stream, which each call of the result then puts there: with
    // the same numbers and addresses, and what lies at these by then. `work` puts in kernels, copies and collectives only,
    // of pinned and device memory, and has run before, so that it asks for no memory of its own. Empty, and `work` is not
    // called, where nothing is captured (CPU).
    virtual std::function<void()> capture(Stream s, const std::function<void()>& work) = 0;

    // ---- transformer block --------------------------------------------------------------------------------------
    // out[i, :] = table[ids[i] - first_row, :], zeros where the id lies outside this rank's rows of the vocabulary.
    // ids: I32 [n]; table: [rows, d_model] of any type of weights; out: [n, d_model].
    virtual void embed(Stream s, View ids, View table, std::int64_t first_row, View out) = 0;

    // out[r, :] = x[r, :] / sqrt(mean(x[r, :]^2) + eps) * weight.  x, out: [n, d_model]; weight: F32 [d_model].
    virtual void rms_norm(Stream s, View x, View weight, float eps, View out) = 0;

    // x += delta, then out = rms_norm(x). One pass. x, delta, out: [n, d_model].
    virtual void add_rms_norm(Stream s, View x, View delta, View weight, float eps, View out) = 0;

    // x += delta.  Same shape.
    virtual void add(Stream s, View x, View delta) = 0;

    // Decoding passes linear layers at most so many rows at a time. On the CPU a row's result is the same, bit for bit,
    // in any number of rows up to this one. On a GPU it depends on the number of rows, to rounding, whatever that is, and
    // this is no limit.
    virtual std::int64_t exact_rows() const = 0;

    // out = x weight^T + bias.  x: [n, in]; out: [n, out].  On a GPU the weight has the activation type, and out that type
    // or F32.
    virtual void linear(Stream s, View x, const LinearWeights& w, View out) = 0;

    // out[r, i] = silu(gate_up[r, i]) * gate_up[r, ff + i].  gate_up: [n, 2 ff]; out: [n, ff].
    virtual void silu_mul(Stream s, View gate_up, View out) = 0;

    // Splits qkv [n, (n_q + 2 n_kv) * d_head] (queries, then keys, then values) and rotates queries and keys of row
    // i to position first + i: pairs (j, j + d_head/2) turn by position * inv_freq[j]; cos and sin are multiplied
    // by `scale`. q: [n, n_q, d_head] activations; k, v: [n_kv, capacity, d_head] cache dtype, written at rows
    // first .. first + n.  inv_freq: F32 [d_head/2], the product position * inv_freq is made in F32.
    virtual void rope_split(Stream s, View qkv, View inv_freq, float scale, std::int64_t first,
                            View q, View k, View v) = 0;

    // Causal attention of a chunk of queries at positions first .. first + n over keys 0 .. first + n.
    // q, out: [n, n_q, d_head]; k, v: [n_kv, capacity, d_head] cache dtype. Softmax scale 1/sqrt(d_head).
    // Never stores n x S: online softmax over blocks of keys.
    virtual void attention(Stream s, View q, View k, View v, std::int64_t first, View out) = 0;

    // ---- observe, score, select (docs/algorithm.md, sections 1 and 3) -----------------------------------------------------
    // Attention A[h, i, n] of the window's queries (the last w of S tokens) over all keys, causal inside the last w
    // columns, normalised over all visible columns; kept are columns n < S - w, not renormalised:
    //   mean[h, n], variance[h, n] over the w rows (unbiased; 0 where w = 1)
    //   sums[0] = H = - sum A ln(A + 1e-10)   sums[1] = V = sum of variance[h, n]
    // q: [w, n_q, d_head]; k: [n_kv, capacity, d_head]; mean, variance: F32 [n_q, S - w]; sums: F64 [2], over this
    // rank's heads in head order. round_to: F32, or BF16 / F16: probabilities are rounded to it first.
    // Memory O(n_q * S). Repeatable bit for bit.
    virtual void window_moments(Stream s, View q, View k, std::int64_t n_tokens, DType round_to,
                                View mean, View variance, View sums) = 0;

    // Adds to the columns' sums what a chunk of queries attends to them: sums[h, j] += A[h, i, j], row i at position
    // first + i over keys 0 .. first + i, normalised, scale 1/sqrt(d_head), rows one after another in order.
    // q: [n, n_q, d_head]; k: [n_kv, capacity, d_head] F32 or BF16; sums: F32 [n_q, S], columns from first + n on
    // are left alone. Never stores n x S. However the prompt is cut into chunks, the sums are the same, bit for bit.
    virtual void column_sums(Stream s, View q, View k, std::int64_t first, View sums) = 0;

    // c = mean, variance, mean + gamma * variance, or mean * variance of a column; out[h, n] = sum of c[h, n-r..n+r]
    // / pool with r = (pool - 1)/2, zeros outside counted, pool odd.  mean, variance, out: F32 [n_q, n].
    virtual void column_scores(Stream s, View mean, View variance, ColumnScore score, float gamma,
                               int pool, View out) = 0;

    // out[g, n] = (sum of x[h, n] over the heads h of group g, in head order) / divisor.  x: F32 [n_q, n];
    // out: F32 [n_kv, n].
    virtual void group_mean(Stream s, View x, float divisor, View out) = 0;

    // Positions of the k highest scores of each row, best first, ties to the lower position.
    // score: F32 [n_kv, n]; keep: I32 [n_kv, k], 0 <= k <= n.
    virtual void top_k(Stream s, View score, View keep) = 0;

    // The best of each row, and the first of equal ones, as a key: best[r] = the least of key(x[r, i], first + i). Keys
    // ascend as values fall, and among equal values as indices rise; -0 equals 0, and a NaN comes after everything. The
    // index is in the lower 32 bits, so the least of several parts' keys is the whole's best.
    // x: F32 [n, m], m > 0, first + m < 2^32; best: I64 [n], keys without sign.
    virtual void argmax(Stream s, View x, std::int64_t first, View best) = 0;

    // Draws a token of each row by draws[r] (kernels/draw.h). Of equal logits the lower token is the better one; a logit that is
    // not a number counts as -infinity. Probabilities are exponentials in double; on a GPU integers of 2^-44 of the likeliest's,
    // whose sums have no order: less likely ones are never drawn. Repeatable bit for bit.
    // x: F32 [n * m], as ranks gather them: the m columns in `parts` even runs, the first m % parts of which have one more,
    // one run [n, its columns] after another, m >= parts; draws: F64 [n, 5]; tokens: I32 [n].  m <= most_sampled_from.
    virtual void sample(Stream s, View x, int parts, View draws, View tokens) = 0;

    // ---- pages --------------------------------------------------------------------------------------------------
    // Writes tokens first .. first + count of the scratch to slots 0 .. count, then token keep[h, i] of KV head h to
    // slot count + i, keys, values and positions.  k, v: [n_kv, capacity, d_head]; keep: I32 [n_kv, b], b may be 0.
    // running: F32 [n_kv, S], each token's running sum, which pages that have room for it (layout.running) take along;
    // or empty.
    virtual void store_tokens(Stream s, View k, View v, std::int64_t first, std::int64_t count,
                              View keep, View running, const PageList& to) = 0;

    // Makes the order lists of the first `length` slots, `window` of which hold the window: by ascending position, or
    // (Official) slots window .. length, then 0 .. window. Later entries are identity.
    virtual void order_slots(Stream s, const PageList& pages, int length, int window,
                             DecodeOrder order) = 0;

    // Copies the positions of the first `length` entries of the order lists, in their order.  out: I32 [n_kv, length].
    virtual void list_positions(Stream s, const PageList& pages, int length, View out) = 0;

    // Makes the order entries of the slots of page `index` of the list identity (a page that decoding adds).
    virtual void init_page(Stream s, const PageList& pages, int index) = 0;

    // ---- decode -------------------------------------------------------------------------------------------------
    // lengths += 1 for all layers and sequences, positions += 1: every sequence takes one more token.
    virtual void begin_step(Stream s, const PagedBatch& kv) = 0;

    // As rope_split, for one token of each sequence at kv.positions[b]; keys, values and position go to the
    // sequence's newest slot of `layer` (order entry length - 1), whose running sum becomes 0.  qkv: [batch, (n_q + 2 n_kv) d_head];
    // q: [batch, n_q, d_head].
    virtual void rope_append(Stream s, View qkv, View inv_freq, float scale, int layer,
                             const PagedBatch& kv, View q) = 0;

    // Attention of each sequence's newest token over all its slots of `layer`, itself included.
    // q, out: [batch, n_q, d_head]. Where probs.offsets[layer, b] >= 0 the softmax rows are left there, by slot:
    // F32 [n_q, length].
    virtual void decode_attention(Stream s, View q, int layer, const PagedBatch& kv,
                                  const RaggedRows& probs, View out) = 0;

    // For all layers and sequences that hold more than budget + window entries: candidates are the first
    // m = length - window entries of the order list; their probabilities, in the list's order, are pooled (zeros
    // outside counted) per query head and summed over the group, in head order, / divisor.
    // scores: same offsets' block, F32 [n_kv, m]. Other layers' blocks are left alone.
    // Where scores.data has one row and there are more KV heads, all of which then hold the same tokens in the same
    // order: one sum over all query heads, in head order; blocks F32 [1, m].
    virtual void decode_scores(Stream s, const PagedBatch& kv, const RaggedRows& probs, int window,
                               int pool, float divisor, const RaggedRows& scores) = 0;

    // means[g, slot] = (sum of probs[h, slot] over the heads h of group g, in head order) / divisor, for all layers and
    // sequences, by slot over the whole length.  means: F32 [n_kv, length].
    virtual void decode_means(Stream s, const PagedBatch& kv, const RaggedRows& probs,
                              float divisor, const RaggedRows& means) = 0;

    // The slots' running sums += means, as decode_means leaves them. Only with layout.running.
    virtual void add_running(Stream s, const PagedBatch& kv, const RaggedRows& means) = 0;

    // Keeps of those candidates the `budget` best, ties to the earlier entry; the order list keeps its order
    // (Position) or is best first (Official), the window's entries follow. length becomes budget + window, slots
    // 0 .. length hold it but for one hole, the next token's: entries beyond are moved into holes, with all that a slot
    // holds. One row of scores serves all KV heads; where scores.data is empty, running sums are the scores.
    virtual void decode_evict(Stream s, const PagedBatch& kv, const RaggedRows& scores, int window,
                              DecodeOrder order) = 0;
};

// threads: 0 takes all processors this process may use.
std::unique_ptr<Backend> make_cpu_backend(int threads);
// The activation type is BF16. `ranks` of this host share the GPU. Throws NotCompiled where the program was built without
// CUDA, and an Error of usage with the reason where there is no such GPU.
std::unique_ptr<Backend> make_cuda_backend(int device, int ranks = 1);

struct CudaDevices {
    int count = 0;
    std::string why_none;  // in one line: not compiled, no driver, an old one, ...
};
CudaDevices cuda_devices();

// The queue (cudaStream_t) behind a stream of a CUDA backend, for libraries that put work into it.
CUstream_st* cuda_queue(Backend& dev, Stream s);
// While the host waits in synchronize(), `look` is called over and over and may throw; until what is returned dies.
std::shared_ptr<void> cuda_while_waiting(Backend& dev, std::function<void()> look);

}  // namespace cake
