// Which matrices a rank holds, of which slices of which tensors, and in which type: what is loaded, and what the plan
// counts before anything is.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "config/model_config.h"
#include "io/checkpoint.h"
#include "model/shard.h"

namespace cake {

// A slice of a tensor of the file.
struct Part {
    std::string name;
    Range rows, columns;
};

// Slices of equal width, one below the other.
struct Matrix {
    std::vector<Part> parts;
    std::int64_t rows() const;
    std::int64_t columns() const { return parts[0].columns.size(); }
};

struct LayerMatrices {
    Matrix qkv, out, gate_up, down;
};
LayerMatrices layer_matrices(const ModelConfig& config, const Shard& shard, int layer);
Matrix embedding_matrix(const ModelConfig& config, const Shard& shard);
// Nothing where the head is the embedding.
std::optional<Matrix> head_matrix(const ModelConfig& config, const Shard& shard);

// In which type matrices stay in memory: all in one, or each as its file has it.
class WeightTypes {
public:
    WeightTypes(DType all = DType::F32) : main_(all), all_(all) {}
    static WeightTypes as_stored(const Checkpoint& checkpoint);

    // As stored, but for two cases. Parts of several types become one matrix of BF16, or of F32 where one of them is F32.
    // Columns that would split a quantisation block are widened to BF16.
    DType of(const Matrix& matrix) const;
    std::size_t bytes_of(const Matrix& matrix) const;

    // The type that holds most of the file's bytes.
    DType main() const { return main_; }
    // The type of all matrices, if they have one.
    std::optional<DType> all() const { return all_; }

private:
    DType main_;
    std::optional<DType> all_;
    std::unordered_map<std::string, DType> stored_;  // by tensor; empty: all_
};

// `requested` is auto, f32 or bf16. auto takes the types of the files at `path`; of a config.json without weights, the
// type that it says. A backend that multiplies by one type `only` gets all in that one.
WeightTypes requested_types(const ModelConfig& config, const std::string& requested,
                            const std::string& path, std::optional<DType> only = {});

}  // namespace cake
