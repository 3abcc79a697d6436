// A rank's share of a model's weights, in device memory.
#pragma once

#include <functional>
#include <vector>

#include "config/model_config.h"
#include "kernels/backend.h"
#include "model/matrices.h"

namespace cake {

// Shapes in terms of this rank's heads and columns; d = d_head. Matrices are of the types that WeightTypes says, biases of
// the backend's activation type.
struct LayerWeights {
    Tensor attn_norm;  // F32 [d_model]
    Tensor qkv;        // [(n_q + 2 n_kv) d, d_model]: queries, keys, values
    Tensor qkv_bias;   // [(n_q + 2 n_kv) d], or empty
    Tensor out;        // [d_model, n_q d]
    Tensor mlp_norm;   // F32 [d_model]
    Tensor gate_up;    // [2 ff, d_model]: gate, then up
    Tensor down;       // [d_model, ff]
};

struct Model {
    ModelConfig config;
    Shard shard;
    Tensor embedding;   // [vocab/R, d_model]
    Tensor final_norm;  // F32 [d_model]
    Tensor head;        // [vocab/R, d_model], empty where it is the embedding
    Tensor inv_freq;    // F32 [d_head/2]
    std::vector<LayerWeights> layers;

    View lm_head() const { return head ? head.view() : embedding.view(); }
    float rope_scale() const { return float(config.rope.attention_factor); }
    std::size_t weight_bytes() const;
};

// Bytes of load_model's result on this rank.
std::size_t model_bytes(const ModelConfig& config, const Shard& shard, const WeightTypes& types,
                        DType activation = DType::F32);

// Random weights of a model of this configuration, in the type that it names.
Checkpoint random_checkpoint(const ModelConfig& config, std::uint64_t seed);

// Usage error that names file and tensor where the checkpoint lacks what the configuration says, or has other shapes.
void check_tensors(const Checkpoint& checkpoint, const ModelConfig& config);

// Reads this rank's slices, a piece at a time into pinned memory, from where it goes to the backend while the next one is
// read; random matrices are made by the backend. Checks names and shapes against the configuration before anything large is
// read: usage errors name file and tensor. `progress` is called with the layers read so far.
Model load_model(Backend& dev, const Checkpoint& checkpoint, const ModelConfig& config,
                 const Shard& shard, const WeightTypes& types,
                 const std::function<void(int)>& progress = {});

}  // namespace cake
