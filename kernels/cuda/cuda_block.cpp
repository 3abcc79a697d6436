// The steps of a block that go through activations once, and linear layers.
#include <limits>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/norm.h"

namespace cake {

namespace {

void check_norm(View x, View out, View weight) {
    const std::int64_t n = x.dim(0), d = weight.elements();
    CAKE_CHECK(x.elements() == n * d && out.elements() == n * d,
               "norm of {} into {} with {} weights", x.shape().str(), out.shape().str(), d);
}

}  // namespace

void CudaBackend::embed(Stream s, View ids, View table, std::int64_t first_row, View out) {
    const std::int64_t n = ids.elements(), d = table.dim(1);
    CAKE_CHECK(out.elements() == n * d, "embedding of {} ids from {} into {}", n,
               table.shape().str(), out.shape().str());
    gpu::embed(queue(s), ids.as<std::int32_t>(), table.dtype(), table.data(), first_row,
               table.dim(0), activations_, activation(out), n, int(d));
}

void CudaBackend::rms_norm(Stream s, View x, View weight, float eps, View out) {
    check_norm(x, out, weight);
    gpu::rms_norm(queue(s), activations_, activation(x), weight.as<float>(), eps, x.dim(0),
                  int(weight.elements()), activation(out));
}

void CudaBackend::add_rms_norm(Stream s, View x, View delta, View weight, float eps, View out) {
    check_norm(x, out, weight);
    CAKE_CHECK(delta.elements() == x.elements(), "sum of {} and {}", x.shape().str(),
               delta.shape().str());
    gpu::add_rms_norm(queue(s), activations_, activation(x), activation(delta), weight.as<float>(),
                      eps, x.dim(0), int(weight.elements()), activation(out));
}

void CudaBackend::add(Stream s, View x, View delta) {
    CAKE_CHECK(x.elements() == delta.elements(), "sum of {} and {}", x.shape().str(),
               delta.shape().str());
    gpu::add(queue(s), activations_, activation(x), activation(delta), x.elements());
}

void CudaBackend::silu_mul(Stream s, View gate_up, View out) {
    const std::int64_t n = out.dim(0), ff = out.dim(1);
    CAKE_CHECK(gate_up.elements() == 2 * n * ff, "gates {} into {}", gate_up.shape().str(),
               out.shape().str());
    gpu::silu_mul(queue(s), activations_, activation(gate_up), activation(out), n, int(ff));
}

// cuBLASLt chooses its kernel by the number of rows, so no number has the bits of another: nothing is gained by cutting.
std::int64_t CudaBackend::exact_rows() const { return std::numeric_limits<std::int32_t>::max(); }

void CudaBackend::linear(Stream s, View x, const LinearWeights& w, View out) {
    const std::int64_t n = x.dim(0), in = w.weight.dim(1), n_out = w.weight.dim(0);
    CAKE_CHECK(x.elements() == n * in && out.elements() == n * n_out, "linear {} of {} into {}",
               w.weight.shape().str(), x.shape().str(), out.shape().str());
    CAKE_CHECK(w.weight.dtype() == activations_,
               "linear layer of {} {} weights, activations are {}", w.weight.shape().str(),
               cake::name(w.weight.dtype()), cake::name(activations_));
    CAKE_CHECK(out.dtype() == activations_ || out.dtype() == DType::F32, "linear layer into {}",
               cake::name(out.dtype()));
    CAKE_CHECK(!w.bias || (w.bias.elements() == n_out && w.bias.dtype() == out.dtype()),
               "bias of {} {} for {} outputs of {}", w.bias.elements(), cake::name(w.bias.dtype()),
               n_out, cake::name(out.dtype()));
    gemm_.run(queue(s), scratch(s, gpu::gemm_work_bytes),
              {.x = activation(x),
               .weight = w.weight.data(),
               .bias = w.bias.data(),
               .out = out.data(),
               .m = n,
               .n = n_out,
               .k = in,
               .in = activations_,
               .out_and_bias = out.dtype()});
}

}  // namespace cake
