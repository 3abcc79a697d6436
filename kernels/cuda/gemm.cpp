// Matrix products by cuBLASLt: a plan for each shape, chosen by its heuristic and kept.
#include <algorithm>
#include <compare>
#include <map>
#include <tuple>

#include "kernels/cuda/cublas_lt.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/device.h"

namespace cake::gpu {
namespace {

// Every length of prompt is a shape of its own.
constexpr std::size_t kMostPlans = 512;

struct Shape {
    std::int64_t m, n, k;
    DType in, out;
    bool biased;
    unsigned alignment;  // of all pointers
    auto operator<=>(const Shape&) const = default;
};

cudaDataType_t data_type(DType dtype) {
    CAKE_CHECK(dtype == DType::F32 || dtype == DType::BF16, "matrix product of {}", name(dtype));
    return dtype == DType::BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

unsigned alignment_of(const GemmTask& t) {
    const auto bits = std::uintptr_t(t.x) | std::uintptr_t(t.weight) | std::uintptr_t(t.out) |
                      std::uintptr_t(t.bias);
    for (unsigned alignment = 256; alignment > 1; alignment /= 2)
        if (bits % alignment == 0)
            return alignment;
    return 1;
}

struct Layout {
    Layout(DType dtype, std::int64_t rows, std::int64_t columns, std::int64_t stride) {
        CUBLAS_CHECK(cublas_lt().layout_create(&handle, data_type(dtype), std::uint64_t(rows),
                                               std::uint64_t(columns), stride));
    }
    ~Layout() { cublas_lt().layout_destroy(handle); }
    Layout(const Layout&) = delete;
    Layout& operator=(const Layout&) = delete;
    cublasLtMatrixLayout_t handle = nullptr;
};

// cuBLASLt is column-major: to it out is [n, m] = weight [k, n]^T times x [k, m].
class Plan {
public:
    // `bias`: one that it will be run with, since kernels differ in the alignment that they need.
    Plan(cublasLtHandle_t library, const Shape& s, const void* bias)
        : weight_(s.in, s.k, s.n, s.k), x_(s.in, s.k, s.m, s.k), out_(s.out, s.n, s.m, s.n) {
        CUBLAS_CHECK(cublas_lt().product_create(&product_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        const cublasOperation_t transposed = CUBLAS_OP_T;
        set(CUBLASLT_MATMUL_DESC_TRANSA, transposed);
        if (s.biased) {
            set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
            set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, data_type(s.out));
            set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
        }
        cublasLtMatmulPreference_t wishes = nullptr;
        CUBLAS_CHECK(cublas_lt().preference_create(&wishes));
        CUBLAS_CHECK(cublas_lt().preference_set(wishes, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                &gemm_work_bytes, sizeof(gemm_work_bytes)));
        // Where k is cut, parts of a sum stay F32: else they may be rounded to what `out` holds.
        const std::uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
        CUBLAS_CHECK(cublas_lt().preference_set(wishes, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                &reduction, sizeof(reduction)));
        const std::uint32_t alignment = s.alignment;
        for (const auto which : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                 CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                 CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                                 CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
            CUBLAS_CHECK(cublas_lt().preference_set(wishes, which, &alignment, sizeof(alignment)));
        cublasLtMatmulHeuristicResult_t best{};
        int found = 0;
        const cublasStatus_t status =
            cublas_lt().heuristic(library, product_, weight_.handle, x_.handle, out_.handle,
                                  out_.handle, wishes, 1, &best, &found);
        cublas_lt().preference_destroy(wishes);
        CAKE_CHECK(status == CUBLAS_STATUS_SUCCESS && found > 0,
                   "cuBLASLt has no kernel for [{}, {}] of {} times [{}, {}]^T into {} ({})", s.m,
                   s.k, name(s.in), s.n, s.k, name(s.out), cublas_lt().status_string(status));
        algorithm_ = best.algo;
    }
    ~Plan() { cublas_lt().product_destroy(product_); }
    Plan(const Plan&) = delete;
    Plan& operator=(const Plan&) = delete;

    void run(cublasLtHandle_t library, const GemmTask& t, void* work, Queue queue) {
        if (t.bias)
            set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, t.bias);
        const float one = 1, zero = 0;
        CUBLAS_CHECK(cublas_lt().matmul(library, product_, &one, t.weight, weight_.handle, t.x,
                                        x_.handle, &zero, t.out, out_.handle, t.out, out_.handle,
                                        &algorithm_, work, gemm_work_bytes, queue));
    }

private:
    template <typename T>
    void set(cublasLtMatmulDescAttributes_t which, const T& value) {
        CUBLAS_CHECK(cublas_lt().product_set(product_, which, &value, sizeof(value)));
    }

    Layout weight_, x_, out_;
    cublasLtMatmulDesc_t product_ = nullptr;
    cublasLtMatmulAlgo_t algorithm_{};
};

}  // namespace

struct Gemm::State {
    cublasLtHandle_t library = nullptr;
    std::map<Shape, Plan> plans;

    State() { CUBLAS_CHECK(cublas_lt().create(&library)); }
    ~State() { cublas_lt().destroy(library); }
    State(const State&) = delete;
    State& operator=(const State&) = delete;
};

Gemm::Gemm() : state_(std::make_unique<State>()) {}
Gemm::~Gemm() = default;

void Gemm::run(Queue queue, void* work, const GemmTask& t) {
    if (t.m == 0 || t.n == 0)
        return;
    const Shape shape{t.m, t.n, t.k, t.in, t.out_and_bias, t.bias != nullptr, alignment_of(t)};
    auto found = state_->plans.find(shape);
    if (found == state_->plans.end()) {
        if (state_->plans.size() >= kMostPlans)
            state_->plans.clear();
        found = state_->plans
                    .emplace(std::piecewise_construct, std::forward_as_tuple(shape),
                             std::forward_as_tuple(state_->library, shape, t.bias))
                    .first;
    }
    found->second.run(state_->library, t, work, queue);
}

}  // namespace cake::gpu
