#include "bench/kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/draw.h"
#include "model/model.h"

namespace cake {
namespace {

constexpr Stream s{};

// Pages of `layers` layers of `batch` sequences, with room for `slots` of each and one more.
struct Pages {
    Pages(Backend& dev, const PageLayout& layout, int layers, int batch, int slots);
    void set_lengths(Backend& dev, int length) const { set(dev, lengths, length); }
    static void set(Backend& dev, const Tensor& to, int value);
    PagedBatch batch() const { return {layout, slab, tables, lengths, budgets, positions}; }
    PageList list(int layer, int b) const;

    PageLayout layout;
    Tensor slab, tables, lengths, budgets, positions;
};

template <typename T>
Tensor upload(Backend& dev, const std::vector<T>& values, DType dtype, const Shape& shape) {
    Tensor out = dev.tensor(dtype, shape);
    dev.copy(s, out, View(const_cast<T*>(values.data()), dtype, shape));
    dev.synchronize(s);
    return out;
}

Pages::Pages(Backend& dev, const PageLayout& page_layout, int layers, int batch, int slots)
    : layout(page_layout) {
    const std::int64_t L = layers, B = batch, each = layout.pages_for(slots + 1);
    // Two bytes of a page are a BF16 number, or half of an F32 one: both are finite.
    slab = dev.tensor(DType::U8, {L * B * each, std::int64_t(layout.bytes())});
    const bool wide = layout.dtype == DType::F32;
    const std::int64_t columns = std::int64_t(layout.bytes()) / (wide ? 4 : 2);
    dev.fill_random(s, {.key = 1, .columns = columns, .range = 2}, 0, 0,
                    View(slab.view().data(), layout.dtype, {L * B * each, columns}));
    std::vector<std::int32_t> numbers(std::size_t(L * B * each));
    std::iota(numbers.begin(), numbers.end(), 0);
    tables = upload(dev, numbers, DType::I32, {L, B, each});
    lengths = dev.tensor(DType::I32, {L, B});
    budgets = dev.tensor(DType::I32, {L, B});
    positions = dev.tensor(DType::I32, {B});
    set(dev, budgets, -1);
    set(dev, positions, slots);
    set_lengths(dev, slots);
    for (int l = 0; l < layers; ++l)
        for (int b = 0; b < batch; ++b)
            for (int page = 0; page < each; ++page)
                dev.init_page(s, list(l, b), page);
}

void Pages::set(Backend& dev, const Tensor& to, int value) {
    const std::vector<std::int32_t> values(std::size_t(to.shape().elements()), value);
    dev.copy(s, to, View(const_cast<std::int32_t*>(values.data()), DType::I32, to.shape()));
    dev.synchronize(s);
}

PageList Pages::list(int layer, int b) const {
    const std::int64_t each = tables.shape()[2], first = (layer * tables.shape()[1] + b) * each;
    return {layout, slab, tables.view().reshaped({tables.shape().elements()}).rows(first, each)};
}

class Kernels {
public:
    Kernels(Backend& dev, const PlanInput& plan, int rank);
    void prefill();
    void decode();
    std::vector<KernelTime> times;

private:
    Tensor random(DType dtype, const Shape& shape) const;
    template <typename Work>
    void time(std::string kernel, std::string shape, double bytes, double flops, const Work& work);
    void linear(const char* which, std::int64_t rows, std::int64_t in, std::int64_t out,
                DType out_type);
    void linear_layers(std::int64_t rows, std::int64_t mlp_rows);
    void norms(std::int64_t rows, bool adds_alone);
    void silu(std::int64_t rows);
    void observe(const Tensor& k, const Tensor& v);
    void attend_to_pages(int slots);
    void evict(int slots);
    void choose();

    Backend& dev_;
    const PlanInput& plan_;
    const ModelConfig& model_;
    const Shard shard_;
    const Policy& policy_;
    const std::int64_t n_q_, n_kv_, d_, d_model_, ff_;
    const DType act_, weight_;
    const double act_bytes_, cache_bytes_, residual_bytes_;  // an element
    Tensor inv_freq_;
    std::string part_;
};

DType weight_type(const PlanInput& plan) {
    const DType main = plan.weights.main();
    return main == DType::BF16 || main == DType::F16 ? main : DType::F32;
}

Kernels::Kernels(Backend& dev, const PlanInput& plan, int rank)
    : dev_(dev),
      plan_(plan),
      model_(plan.model),
      shard_(shard_of(plan.model, plan.ranks, rank)),
      policy_(plan.policies.front()),
      n_q_(shard_.n_q()),
      n_kv_(shard_.n_kv()),
      d_(model_.d_head),
      d_model_(model_.d_model),
      ff_(shard_.ff.size()),
      act_(plan.activation),
      weight_(weight_type(plan)),
      act_bytes_(double(bytes_of(act_, 1))),
      cache_bytes_(double(bytes_of(plan.cache, 1))),
      residual_bytes_(double(bytes_of(plan.residual, 1))) {
    const std::vector<float> inv_freq = rope_inv_freq(model_.rope, model_.d_head);
    inv_freq_ = upload(dev, inv_freq, DType::F32, {std::int64_t(inv_freq.size())});
}

Tensor Kernels::random(DType dtype, const Shape& shape) const {
    Tensor out = dev_.tensor(dtype, shape);
    const std::int64_t columns = shape[shape.rank() - 1];
    dev_.fill_random(s, {.key = 1, .columns = columns, .range = 2}, 0, 0,
                     out.view().reshaped({shape.elements() / columns, columns}));
    return out;
}

// A few microseconds are not to be told on their own: as many calls a round as take some milliseconds.
template <typename Work>
void Kernels::time(std::string kernel, std::string shape, double bytes, double flops,
                   const Work& work) {
    const auto round = [&](int calls) {
        const Event begin = dev_.record(s);
        for (int i = 0; i < calls; ++i)
            work();
        const Event end = dev_.record(s);
        dev_.synchronize(s);
        return dev_.seconds_between(begin, end).value_or(0) / calls;
    };
    round(1);  // takes what memory it needs
    const int calls = int(std::clamp(5e-3 / std::max(round(1), 1e-9), 1.0, 100.0));
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < 5; ++i)
        best = std::min(best, round(calls));
    times.push_back({part_, std::move(kernel), std::move(shape), best, bytes, flops});
}

// ---- what both parts have ----------------------------------------------------------------------------------------------

void Kernels::linear(const char* which, std::int64_t rows, std::int64_t in, std::int64_t out,
                     DType out_type) {
    const Tensor x = random(act_, {rows, in}), w = random(weight_, {out, in}),
                 y = dev_.tensor(out_type, {rows, out});
    time("linear", fmt::format("{}: {} x {} by {}, {}", which, rows, in, out, name(weight_)),
         double(x.bytes() + w.bytes() + y.bytes()), 2.0 * double(rows * in * out), [&] {
             dev_.linear(s, x, {w, {}}, y);
         });
}

void Kernels::linear_layers(std::int64_t rows, std::int64_t mlp_rows) {
    linear("qkv", rows, d_model_, (n_q_ + 2 * n_kv_) * d_, act_);
    linear("out", rows, n_q_ * d_, d_model_, plan_.residual);
    linear("gate and up", mlp_rows, d_model_, 2 * ff_, act_);
    linear("down", mlp_rows, ff_, d_model_, plan_.residual);
}

void Kernels::norms(std::int64_t rows, bool adds_alone) {
    const Tensor x = random(plan_.residual, {rows, d_model_}),
                 delta = random(plan_.residual, {rows, d_model_}),
                 weight = random(DType::F32, {d_model_}), out = dev_.tensor(act_, {rows, d_model_});
    const double elements = double(rows * d_model_);
    const std::string shape = fmt::format("{} x {}", rows, d_model_);
    const float eps = model_.rms_eps;
    time("rms_norm", shape, elements * (residual_bytes_ + act_bytes_), 0,
         [&] { dev_.rms_norm(s, x, weight, eps, out); });
    time("add_rms_norm", shape, elements * (3 * residual_bytes_ + act_bytes_), 0,
         [&] { dev_.add_rms_norm(s, x, delta, weight, eps, out); });
    if (adds_alone)
        time("add", shape, elements * 3 * residual_bytes_, 0, [&] { dev_.add(s, x, delta); });
}

void Kernels::silu(std::int64_t rows) {
    const Tensor gate_up = random(act_, {rows, 2 * ff_}), out = dev_.tensor(act_, {rows, ff_});
    time("silu_mul", fmt::format("{} x (2 x {})", rows, ff_), double(rows * 3 * ff_) * act_bytes_,
         0, [&] { dev_.silu_mul(s, gate_up, out); });
}

// ---- prefill -----------------------------------------------------------------------------------------------------------

void Kernels::prefill() {
    part_ = "prefill";
    const std::int64_t S = plan_.prompt, n = workspace_size(plan_).chunk, first = S - n;
    const std::int64_t m = rows_of_part(n, mlp_rows);
    linear_layers(n, m);
    norms(n, true);
    silu(m);

    const Tensor k = random(plan_.cache, {n_kv_, S, d_}), v = random(plan_.cache, {n_kv_, S, d_});
    const Tensor q = random(act_, {n, n_q_, d_});
    const std::string over = fmt::format("{} queries, {} heads, {} keys", n, n_q_, S);
    const double pairs = double(n * n_q_) * (double(first) + double(n + 1) / 2);
    {
        const Tensor qkv = random(act_, {n, (n_q_ + 2 * n_kv_) * d_});
        time("rope_split", fmt::format("{} x {}", n, qkv.shape()[1]),
             double(n * d_) *
                 (double(2 * n_q_ + 2 * n_kv_) * act_bytes_ + double(2 * n_kv_) * cache_bytes_),
             0, [&] { dev_.rope_split(s, qkv, inv_freq_, 1, first, q, k, v); });
        const Tensor out = dev_.tensor(act_, q.shape());
        time("attention", over, double(q.bytes() + out.bytes() + k.bytes() + v.bytes()),
             4 * pairs * double(d_), [&] { dev_.attention(s, q, k, v, first, out); });
    }
    if (policy_.observe == Observe::All) {
        const Tensor sums = dev_.tensor(DType::F32, {n_q_, S});
        dev_.fill_zero(s, sums);
        time("column_sums", over, double(q.bytes() + sums.bytes() + k.bytes()),
             4 * pairs * double(d_), [&] { dev_.column_sums(s, q, k, first, sums); });
    }
    if (policy_.evicts(int(S)))
        observe(k, v);
}

// Statistics, scores, and the choice of C - w tokens.
void Kernels::observe(const Tensor& k, const Tensor& v) {
    const std::int64_t S = plan_.prompt, w = policy_.window, m = S - w;
    const std::int64_t b = std::min<std::int64_t>(policy_.prefix_budget(), m);
    const Tensor mean = random(DType::F32, {n_q_, m}), variance = random(DType::F32, {n_q_, m}),
                 by_head = dev_.tensor(DType::F32, {n_q_, m}),
                 score = random(DType::F32, {n_kv_, m}), keep = dev_.tensor(DType::I32, {n_kv_, b}),
                 sums = dev_.tensor(DType::F64, {2});
    const std::string columns = fmt::format("{} x {}", n_q_, m);
    if (policy_.observe == Observe::Window) {
        const Tensor q = random(act_, {w, n_q_, d_});
        time("window_moments", fmt::format("{} queries, {} heads, {} keys", w, n_q_, S),
             double(2 * k.bytes() + mean.bytes() + variance.bytes()),
             4.0 * double(w * n_q_ * S * d_),
             [&] { dev_.window_moments(s, q, k, S, policy_.stats, mean, variance, sums); });
        time("column_scores", columns, 3.0 * double(mean.bytes()), 0, [&] {
            dev_.column_scores(s, mean, variance, policy_.score, float(policy_.gamma), policy_.pool,
                               by_head);
        });
    }
    time("group_mean", columns, double(by_head.bytes() + score.bytes()), 0,
         [&] { dev_.group_mean(s, mean, float(model_.group()), score); });
    time("top_k", fmt::format("{} of {} x {}", b, n_kv_, m), double(score.bytes() + keep.bytes()),
         0, [&] { dev_.top_k(s, score, keep); });
    const Pages pages(dev_, page_layout(plan_, shard_), 1, 1, int(w + b));
    time("store_tokens", fmt::format("{} x {}", n_kv_, w + b),
         4.0 * double(n_kv_ * (w + b) * d_) * cache_bytes_, 0,
         [&] { dev_.store_tokens(s, k, v, m, w, keep, {}, pages.list(0, 0)); });
}

// ---- decode ------------------------------------------------------------------------------------------------------------

void Kernels::decode() {
    part_ = "decode";
    const std::int64_t batch = plan_.batch;
    linear_layers(batch, batch);
    linear("head, a step", batch, d_model_, shard_.vocab.size(), DType::F32);
    norms(batch, false);
    silu(batch);
    attend_to_pages(plan_.prompt);
    const bool cut = policy_.evicts(plan_.prompt);
    if (cut)
        attend_to_pages(policy_.cache_size);
    if (cut && policy_.decode != DecodeEvict::None)
        evict(policy_.cache_size);
    choose();
}

void Kernels::attend_to_pages(int slots) {
    const std::int64_t batch = plan_.batch;
    const Pages pages(dev_, page_layout(plan_, shard_), 1, int(batch), slots);
    const PagedBatch kv = pages.batch();
    const Tensor q = random(act_, {batch, n_q_, d_}), out = dev_.tensor(act_, q.shape()),
                 qkv = random(act_, {batch, (n_q_ + 2 * n_kv_) * d_});
    const std::string shape = fmt::format("{} x {} slots", batch, slots);
    time("rope_append", shape, double(qkv.bytes() + q.bytes()), 0,
         [&] { dev_.rope_append(s, qkv, inv_freq_, 1, 0, kv, q); });
    const Tensor nowhere =
        upload(dev_, std::vector<std::int64_t>(std::size_t(batch), -1), DType::I64, {1, batch});
    const Tensor no_rows = dev_.tensor(DType::F32, {n_q_, 0});
    const RaggedRows none{no_rows, nowhere};
    time("decode_attention", shape, double(2 * batch * n_kv_ * slots * d_) * cache_bytes_,
         4.0 * double(batch * n_q_ * slots * d_),
         [&] { dev_.decode_attention(s, q, 0, kv, none, out); });
}

// One entry leaves for each that came, in all layers.
void Kernels::evict(int slots) {
    const std::int64_t L = model_.n_layers, batch = plan_.batch, length = slots + 1;
    const std::int64_t m = length - policy_.window, floats = L * batch * length;
    const Pages pages(dev_, page_layout(plan_, shard_), int(L), int(batch), slots);
    Pages::set(dev_, pages.budgets, policy_.prefix_budget());
    const PagedBatch kv = pages.batch();
    const Tensor probs = random(DType::F32, {n_q_, floats}),
                 scores = random(DType::F32, {n_kv_, floats});
    const auto offsets = [&](std::int64_t heads) {
        std::vector<std::int64_t> first;
        for (std::int64_t i = 0; i < L * batch; ++i)
            first.push_back(i * heads * length);
        return upload(dev_, first, DType::I64, {L, batch});
    };
    const Tensor by_head = offsets(n_q_), by_kv_head = offsets(n_kv_);
    const RaggedRows from{probs, by_head}, to{scores, by_kv_head};
    const std::string shape = fmt::format("{} layers x {} x {} slots", L, batch, length);
    const double candidates = double(L * batch * m);
    if (policy_.observe != Observe::Nothing && !policy_.accumulates()) {
        pages.set_lengths(dev_, int(length));
        time("decode_scores", shape, candidates * 4 * double(n_q_ + n_kv_), 0, [&] {
            dev_.decode_scores(s, kv, from, policy_.window, policy_.pool, float(model_.group()),
                               to);
        });
        pages.set_lengths(dev_, slots);
    }
    // Of a candidate its score, and its place in the list of entries, read and written.
    time("begin_step and decode_evict", shape, candidates * 12 * double(n_kv_), 0, [&] {
        dev_.begin_step(s, kv);
        dev_.decode_evict(s, kv, policy_.accumulates() ? RaggedRows{} : to, policy_.window,
                          DecodeOrder::Position);
    });
}

void Kernels::choose() {
    const std::int64_t batch = plan_.batch, vocab = model_.vocab, part = shard_.vocab.size();
    const Tensor x = random(DType::F32, {batch * vocab}), best = dev_.tensor(DType::I64, {batch}),
                 tokens = dev_.tensor(DType::I32, {batch});
    const View mine = x.view().rows(0, batch * part).reshaped({batch, part});
    time("argmax", fmt::format("{} x {}, a step", batch, part), double(mine.bytes()), 0,
         [&] { dev_.argmax(s, mine, 0, best); });
    if (vocab > most_sampled_from)
        return;
    const std::vector<Draw> draws(std::size_t(batch),
                                  {.temperature = 1, .top_p = 0.95, .random = 0.5});
    Tensor by = dev_.tensor(DType::F64, {batch, 5});
    dev_.copy(s, by, View(const_cast<Draw*>(draws.data()), DType::F64, {batch, 5}));
    dev_.synchronize(s);
    time("sample", fmt::format("{} x {}, top-p 0.95, a step", batch, vocab), double(x.bytes()), 0,
         [&] { dev_.sample(s, x, 1, by, tokens); });
}

}  // namespace

std::vector<KernelTime> time_kernels(Backend& dev, const PlanInput& plan, int rank) {
    Kernels kernels(dev, plan, rank);
    kernels.prefill();
    kernels.decode();
    return std::move(kernels.times);
}

std::string kernel_table(const std::vector<KernelTime>& times, const Ceilings& ceilings) {
    std::string out = fmt::format(
        "of ceilings of {:.4g} GB/s and {:.4g} "
        "TFLOP/s\n{:8}{:28}{:44}{:>12}{:>10}{:>8}{:>10}{:>8}\n",
        ceilings.read_gb_s, ceilings.gemm_tflop_s, "part", "kernel", "shape", "us", "GB/s", "%",
        "TFLOP/s", "%");
    for (const KernelTime& t : times) {
        const double gb_s = 1e-9 * t.bytes / t.seconds, tflop_s = 1e-12 * t.flops / t.seconds;
        out += fmt::format("{:8}{:28}{:44}{:12.2f}{:10.4g}{:8.1f}", t.part, t.kernel, t.shape,
                           1e6 * t.seconds, gb_s, 100 * gb_s / ceilings.read_gb_s);
        out += t.flops > 0 ? fmt::format("{:10.4g}{:8.1f}\n", tflop_s,
                                         100 * tflop_s / ceilings.gemm_tflop_s)
                           : fmt::format("{:>10}{:>8}\n", "-", "-");
    }
    return out;
}

nlohmann::json to_json(const std::vector<KernelTime>& times) {
    nlohmann::json out = nlohmann::json::array();
    for (const KernelTime& t : times)
        out.push_back({{"part", t.part},
                       {"kernel", t.kernel},
                       {"shape", t.shape},
                       {"s", t.seconds},
                       {"bytes", t.bytes},
                       {"flops", t.flops}});
    return out;
}

}  // namespace cake
