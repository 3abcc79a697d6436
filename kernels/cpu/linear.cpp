// Linear layers. Few rows (decoding) are bound by reading the weights and go through kernels of our
// own, which read narrow weights as they lie; many rows (prefill) are bound by arithmetic and go to
// oneDNN, narrow weights widened panel by panel.
//
// Up to 32 rows (64 with narrow weights), a row of the result is the same bit for bit however many rows there are.
// Above, oneDNN chooses its blocking by shape, so that results of different row counts may differ
// in the last bits.
#include <algorithm>

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/wide.h"

namespace cake {

namespace {

// Where oneDNN gets ahead.
constexpr std::int64_t kFewRows = 32;
constexpr std::int64_t few_rows(DType weights) { return weights == DType::F32 ? kFewRows : 64; }

// A panel of widened weights should still lie in L2 when it is multiplied, and fill oneDNN's tiles.
constexpr std::int64_t kPanelBytes = 1 << 20;
constexpr std::int64_t kPanelMultiple = 64;  // rows

// Rows first .. first + n of the weights as F32 in `to`.
void widen_rows(int threads, View weight, std::int64_t first, std::int64_t n, float* to) {
    const std::int64_t in = weight.dim(1);
    const auto* from = static_cast<const std::byte*>(weight.data());
    const std::size_t row_bytes = bytes_of(weight.dtype(), in);
    parallel_pieces(threads, n, 16, [&](std::int64_t begin, std::int64_t end) {
        wide_kernels().widen(weight.dtype(), from + std::size_t(first + begin) * row_bytes,
                             (end - begin) * in, to + begin * in);
    });
}

}  // namespace

void CpuBackend::Dnnl::matmul(const float* x, const float* weight, const float* bias,
                              std::int64_t rows, std::int64_t in, std::int64_t n_out, float* out,
                              std::int64_t out_stride) {
    using dnnl::memory;
    const auto f32 = memory::data_type::f32;
    const memory::desc x_desc({rows, in}, f32, memory::dims{in, 1});
    const memory::desc weight_desc({in, n_out}, f32,
                                   memory::dims{1, in});  // transposed by its strides
    const memory::desc bias_desc({1, n_out}, f32, memory::dims{n_out, 1});
    const memory::desc out_desc({rows, n_out}, f32, memory::dims{out_stride, 1});

    constexpr std::size_t most_primitives = 64;  // every length of prompt is a shape of its own
    if (primitives.size() >= most_primitives)
        primitives.clear();
    const MatmulShape shape{rows, in, n_out, out_stride, bias != nullptr};
    auto found = primitives.find(shape);
    if (found == primitives.end()) {
        const auto desc = bias ? dnnl::matmul::desc(x_desc, weight_desc, bias_desc, out_desc)
                               : dnnl::matmul::desc(x_desc, weight_desc, out_desc);
        found = primitives.emplace(shape, dnnl::matmul({desc, engine})).first;
    }
    const auto borrow = [&](const memory::desc& desc, const float* data) {
        return memory(desc, engine, const_cast<float*>(data));
    };
    std::unordered_map<int, memory> args{{DNNL_ARG_SRC, borrow(x_desc, x)},
                                         {DNNL_ARG_WEIGHTS, borrow(weight_desc, weight)},
                                         {DNNL_ARG_DST, borrow(out_desc, out)}};
    if (bias)
        args.emplace(DNNL_ARG_BIAS, borrow(bias_desc, bias));
    found->second.execute(stream, args);
    stream.wait();
}

std::int64_t CpuBackend::exact_rows() const { return kFewRows; }

void CpuBackend::linear(Stream, View x, const LinearWeights& w, View out) {
    const std::int64_t n = x.dim(0), in = w.weight.dim(1), n_out = w.weight.dim(0);
    CAKE_CHECK(x.elements() == n * in && out.elements() == n * n_out, "linear {} of {} into {}",
               w.weight.shape().str(), x.shape().str(), out.shape().str());
    CAKE_CHECK(!w.bias || w.bias.elements() == n_out, "bias {} of {}", w.bias.shape().str(),
               w.weight.shape().str());
    const DType dtype = w.weight.dtype();
    CAKE_CHECK(is_weight_type(dtype) && in % traits(dtype).block_elements == 0,
               "linear layer of {} {} weights", w.weight.shape().str(), cake::name(dtype));
    const float* from = x.as<float>();
    const float* bias = w.bias ? w.bias.as<float>() : nullptr;
    float* to = out.as<float>();
    if (n == 0)
        return;

    if (n <= few_rows(dtype)) {
        const std::int64_t grain = std::clamp<std::int64_t>(n_out / (8 * threads_) / 4 * 4, 4, 256);
        parallel_pieces(threads_, n_out, grain, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = 0; r < n; r += few_rows_at_once) {
                const FewRowsLinear task{from + r * in,
                                         w.weight.data(),
                                         bias,
                                         to + r * n_out,
                                         std::min(few_rows_at_once, n - r),
                                         in,
                                         n_out,
                                         dtype};
                wide_kernels().few_rows_linear(task, begin, end);
            }
        });
        return;
    }

    omp_set_num_threads(threads_);  // of the calling thread: what oneDNN goes by
    if (dtype == DType::F32) {
        dnnl_->matmul(from, w.weight.as<float>(), bias, n, in, n_out, to, n_out);
        return;
    }
    const std::int64_t panel = std::max(kPanelMultiple, kPanelBytes / std::int64_t(sizeof(float)) /
                                                            in / kPanelMultiple * kPanelMultiple);
    const std::size_t panel_bytes = bytes_of(DType::F32, std::min(panel, n_out) * in);
    if (dnnl_->widened.bytes() < panel_bytes)
        dnnl_->widened = Buffer::host(panel_bytes);
    auto* widened = static_cast<float*>(dnnl_->widened.data());
    for (std::int64_t o = 0; o < n_out; o += panel) {
        const std::int64_t rows = std::min(panel, n_out - o);
        widen_rows(threads_, w.weight, o, rows, widened);
        dnnl_->matmul(from, widened, bias ? bias + o : nullptr, n, in, rows, to + o, n_out);
    }
}

}  // namespace cake
