// The one file that includes cudnn-frontend: its headers take most of a minute to compile.
#include "kernels/cuda/cudnn_attention.h"

#include <array>
#include <cmath>
#include <compare>
#include <cstdlib>
#include <dlfcn.h>
#include <map>
#include <unordered_map>
#include <utility>

#include <spdlog/spdlog.h>

// It then finds the functions of cuDNN and CUDA by name: cuDNN's in cudnn_dlhandle, CUDA's in libcudart, whose streams and
// memory are those of the runtime that this program is linked with, since both use the device's primary context.
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include "base/error.h"

namespace cudnn_frontend {
void* cudnn_dlhandle =
    nullptr;  // declared by its headers, which leave it to the program to define and set
}

namespace cake::gpu {
namespace {

namespace fe = cudnn_frontend;

// What a task has to be worth. A graph takes a core 3 ms (for an H100, whose driver's part is not in this) and serves all layers:
// so much work in each of 32 repays that, if on an H100 cuDNN reaches 75 % of its ceiling and our own kernel 45 %, as they
// are meant to. The first graph of a model's heads takes 0.4 s, most of it to compile the kernel, once a process.
constexpr double kLeastOperations = 1e11;
// Every chunk of every length of prompt is a graph of its own.
constexpr std::size_t kMostGraphs = 512;

struct Library {
    bool usable = false;
    std::string reason;  // why not
};

Library load() {
    const char* const wanted = std::getenv("CAKE_CUDNN");
    if (wanted && *wanted == '0')
        return {false, "CAKE_CUDNN is 0"};
    fe::cudnn_dlhandle = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);  // for good
    if (!fe::cudnn_dlhandle)
        return {false, dlerror()};
    return {true, {}};
}

const Library& library() {
    static const Library loaded = load();
    return loaded;
}

struct Shape {
    std::int64_t n, first, capacity, n_q, group, d_head;
    auto operator<=>(const Shape&) const = default;
};

Shape shape_of(const AttentionTask& t) {
    return {t.n, t.first, t.capacity, t.n_q, t.group, t.d_head};
}

bool is_worth_a_graph(const AttentionTask& t) {
    const double keys_of_a_query = t.first + 0.5 * t.n;
    return 4.0 * t.n * keys_of_a_query * t.n_q * t.d_head >= kLeastOperations;
}

bool is_aligned(const void* p) { return std::uintptr_t(p) % 16 == 0; }

bool suits(const AttentionTask& t) {
    return t.dtype == DType::BF16 && t.cache_type == DType::BF16 &&
           (t.d_head == 64 || t.d_head == 128) && is_aligned(t.q) && is_aligned(t.k) &&
           is_aligned(t.v) && is_aligned(t.out);
}

void check(const fe::error_t& status, const char* what) {
    if (status.is_bad())
        throw Error(fmt::format("cuDNN, {}: {}", what, status.err_msg));
}

void check(cudnnStatus_t status, const char* what) {
    if (status != CUDNN_STATUS_SUCCESS)
        throw Error(fmt::format("cuDNN, {}: {}", what, fe::detail::get_error_string(status)));
}

enum TensorId : std::int64_t { kQuery = 1, kKey, kValue, kOut };

struct Graph {
    std::shared_ptr<fe::graph::Graph> graph;  // null: cuDNN does not take this shape
    std::size_t work_bytes = 0;
};

using Kernels = std::shared_ptr<fe::KernelCache>;

// A batch of one: tensors are [1, heads, rows, d_head], whatever their order in memory.
Graph build(cudnnHandle_t handle, const Shape& s, const Kernels& kernels) {
    const std::int64_t n_kv = s.n_q / s.group, keys = s.first + s.n, d = s.d_head;
    const std::vector<std::int64_t> dims_of_q = {1, s.n_q, s.n, d},
                                    strides_of_q = {s.n * s.n_q * d, d, s.n_q * d, 1},
                                    dims_of_k = {1, n_kv, keys, d},
                                    strides_of_k = {n_kv * s.capacity * d, s.capacity * d, d, 1};
    const auto input = [](const char* name, TensorId id, const auto& dims, const auto& strides) {
        return fe::graph::Tensor_attributes().set_name(name).set_uid(id).set_dim(dims).set_stride(
            strides);
    };

    const auto graph = std::make_shared<fe::graph::Graph>();
    graph->set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT)
        .set_dynamic_shape_enabled(true)  // else each graph compiles a kernel of its own
        .set_kernel_cache(kernels);
    const auto q = graph->tensor(input("q", kQuery, dims_of_q, strides_of_q));
    const auto k = graph->tensor(input("k", kKey, dims_of_k, strides_of_k));
    const auto v = graph->tensor(input("v", kValue, dims_of_k, strides_of_k));
    // The last query sees the last key, the one before it all but that, ...
    const auto out = graph->sdpa(q, k, v,
                                 fe::graph::SDPA_attributes()
                                     .set_name("attention")
                                     .set_generate_stats(false)
                                     .set_attn_scale(1.0f / std::sqrt(float(d)))
                                     .set_diagonal_alignment(fe::DiagonalAlignment_t::BOTTOM_RIGHT)
                                     .set_diagonal_band_right_bound(0))[0];
    out->set_output(true).set_uid(kOut).set_dim(dims_of_q).set_stride(strides_of_q);

    check(graph->build(handle, {fe::HeurMode_t::A}), "graph");
    std::int64_t bytes = 0;
    check(graph->get_workspace_size(bytes), "work space");
    return {graph, std::size_t(bytes)};
}

}  // namespace

struct CudnnAttention::State {
    cudnnHandle_t handle = nullptr;
    std::map<std::array<std::int64_t, 3>, Kernels> kernels;  // by n_q, group, d_head
    std::map<Shape, Graph> graphs;
    bool said = false;  // that cuDNN does not serve
    bool given_up = false;

    State() = default;
    ~State() {
        graphs.clear();
        kernels.clear();
        if (handle)
            fe::detail::destroy_handle(handle);
    }
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    void say(std::string_view reason) {
        if (!std::exchange(said, true))
            spdlog::warn("own kernels compute attention in place of cuDNN: {}", reason);
    }

    // cuDNN's layers throw what they like: the frontend std::runtime_error where a library lacks a function.
    Graph built(const Shape& shape) {
        try {
            if (!handle)
                check(fe::detail::create_handle(&handle), "handle");
            Kernels& compiled = kernels[{shape.n_q, shape.group, shape.d_head}];
            if (!compiled)
                compiled = std::make_shared<fe::KernelCache>();
            return build(handle, shape, compiled);
        } catch (const std::exception& e) {
            say(e.what());
            return {};
        }
    }

    const Graph& graph_of(const Shape& shape) {
        const auto found = graphs.find(shape);
        if (found != graphs.end())
            return found->second;
        if (graphs.size() >= kMostGraphs)
            graphs.clear();
        return graphs.emplace(shape, built(shape)).first->second;
    }
};

CudnnAttention::CudnnAttention() : state_(std::make_unique<State>()) {}
CudnnAttention::~CudnnAttention() = default;

std::optional<std::size_t> CudnnAttention::work_bytes(const AttentionTask& task) {
    if (state_->given_up || !suits(task) || !is_worth_a_graph(task))
        return {};
    if (!library().usable) {
        state_->say(library().reason);
        return {};
    }
    const Graph& graph = state_->graph_of(shape_of(task));
    if (!graph.graph)
        return {};
    return graph.work_bytes;
}

void CudnnAttention::do_without(std::string_view reason) {
    state_->given_up = true;
    state_->say(reason);
}

void CudnnAttention::run(Queue queue, const AttentionTask& task, void* work) {
    const Graph& graph = state_->graph_of(shape_of(task));
    CAKE_CHECK(graph.graph, "cuDNN has no graph for {} queries at {}", task.n, task.first);
    std::unordered_map<std::int64_t, void*> tensors = {{kQuery, const_cast<void*>(task.q)},
                                                       {kKey, const_cast<void*>(task.k)},
                                                       {kValue, const_cast<void*>(task.v)},
                                                       {kOut, task.out}};
    check(fe::detail::set_stream(state_->handle, queue), "stream");
    check(graph.graph->execute(state_->handle, tensors, work), "attention");
}

std::string attention_in_use() {
    if (!library().usable)
        return "own kernels (" + library().reason + ")";
    const std::size_t v = fe::detail::get_backend_version();
    return fmt::format("cuDNN {}.{}.{} for long chunks, else own kernels", v / 10000, v / 100 % 100,
                       v % 100);
}

}  // namespace cake::gpu
