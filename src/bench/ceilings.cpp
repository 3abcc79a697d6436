#include "bench/ceilings.h"

#include <algorithm>

#include "base/timer.h"

namespace cake {
namespace {

// The best of five, after one that is not counted.
template <typename Work>
double best_seconds(const Work& work) {
    double best = 1e9;
    for (int i = 0; i < 6; ++i) {
        const Timer timer;
        work();
        if (i > 0)
            best = std::min(best, timer.seconds());
    }
    return best;
}

// The last queries of a prompt that the model takes, as many as keep a device busy.
struct AttentionShape {
    std::int64_t queries, keys;
};
AttentionShape attention_shape(const Backend& dev, const ModelConfig& m) {
    if (!dev.info().own_memory)
        return {1024, 4096};
    const std::int64_t keys = std::min(m.max_positions, 16384);
    return {keys / 2, keys};
}

double attention_tflop_s(Backend& dev, const ModelConfig& m) {
    const auto [n, keys] = attention_shape(dev, m);
    const std::int64_t d = m.d_head;
    const DType type = dev.types().activation;
    const Tensor q = dev.tensor(type, {n, m.n_heads, d}), out = dev.tensor(type, {n, m.n_heads, d}),
                 k = dev.tensor(type, {m.n_kv_heads, keys, d}),
                 v = dev.tensor(type, {m.n_kv_heads, keys, d});
    // Zeros would be faster than what comes: they cost a GPU less power.
    for (const Tensor* x : {&q, &k, &v})
        dev.fill_random({}, {.key = 1, .columns = d, .range = 2}, 0, 0,
                        x->view().reshaped({x->view().elements() / d, d}));
    const double seconds = best_seconds([&] {
        dev.attention({}, q, k, v, keys - n, out);
        dev.synchronize({});
    });
    const double seen = double(n) * (keys - n) + double(n) * (n + 1) / 2;  // keys of all queries
    return 4 * seen * double(m.n_heads) * double(d) / seconds / 1e12;
}

double all_reduce_seconds(Backend& dev, Communicator& comm, std::int64_t floats) {
    const Tensor data = dev.tensor(DType::F32, {floats});
    dev.fill_zero({}, data);
    return best_seconds([&] {
        comm.barrier();
        const Timer timer;
        comm.all_reduce_sum({}, data);
        dev.synchronize({});
    });
}

}  // namespace

std::string machine_yaml(Backend& dev, Communicator& comm, const ModelConfig& model,
                         const std::string& host, int ranks_here) {
    comm.barrier();
    const Ceilings mine = dev.ceilings();
    comm.barrier();
    double sums[] = {mine.read_gb_s, mine.gemm_tflop_s, attention_tflop_s(dev, model)};
    comm.sum(sums);
    const double R = comm.size();
    const bool shared = !dev.info().own_memory;  // else figures are those of one of the devices
    if (!shared)
        for (double& sum : sums)
            sum /= R;
    const AttentionShape shape = attention_shape(dev, model);
    double latency_us = 10, link_gb_s = 1;
    const bool linked = comm.size() > 1;
    if (linked) {
        constexpr std::int64_t floats = 1 << 20;
        latency_us = 1e6 * all_reduce_seconds(dev, comm, 4);
        link_gb_s = 4.0 * floats * 2 * (R - 1) / R / all_reduce_seconds(dev, comm, floats) / 1e9;
    }
    const char* link = linked ? "measured" : "assumed: one rank was started";
    return fmt::format(
        "# Measured by `cake bench --ceilings` with {} ranks of {} threads, all at once; the best "
        "of five.\n"
        "name: {}\n"
        "devices_per_node: {}\n"
        "shared: {}            # {}\n"
        "memory_bytes: {}\n"
        "read_gb_s: {:.2f}\n"
        "gemm_tflop_s: {:.4f}      # a large product of {} matrices\n"
        "attention_tflop_s: {:.4f} # {} query and {} KV heads of {}, {} queries over {} keys\n"
        "link_gb_s: {:.3f}          # {}\n"
        "link_latency_us: {:.1f}     # {}, a barrier included\n"
        "network_gb_s: 1         # assumed\n"
        "network_latency_us: 50  # assumed\n"
        "backend: {}\n",
        comm.size(), dev.info().threads, host, std::max(ranks_here, 1), shared,
        shared ? "what follows is the node's" : "what follows is a device's", dev.info().free_bytes,
        sums[0], sums[1], name(dev.types().activation), sums[2], model.n_heads, model.n_kv_heads,
        model.d_head, shape.queries, shape.keys, link_gb_s, link, latency_us, link, dev.name());
}

}  // namespace cake
