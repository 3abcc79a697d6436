// The weights of a model on disk, whatever their files: a Hugging Face folder or a GGUF file.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random_matrix.h"
#include "base/tensor.h"

namespace cake {

// A tensor as it lies in a file. `name` is the Hugging Face name also for GGUF files
// ("model.layers.0.self_attn.q_proj.weight"); `shape` is row-major, [out, in] for a linear layer.
struct TensorInfo {
    std::string name;
    DType dtype;
    Shape shape;
    std::size_t bytes;  // in the file
    std::string file;   // which file, for messages
    // The type as the file spells it. It may be one that DType lacks ("F8_E4M3", "I16"): `dtype` is
    // then U8, which no weight has.
    std::string stored;
};

// Whether there are weights at `path` for Checkpoint::open: a GGUF file, or a folder with .safetensors.
bool has_weights(const std::string& path);

// Half-open range of rows or columns.
struct Range {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    std::int64_t size() const { return end - begin; }
};

class GgufFile;

// Maps its files; nothing is read before read(). Copies of slices only: peak memory is the caller's
// share. Opening throws usage errors that name the file: missing, truncated, lying about lengths.
// Everything const may be called by several threads at once.
class Checkpoint {
public:
    // `path`: a folder with config.json and .safetensors (one, or shards by
    // model.safetensors.index.json), or a .gguf file (the first, if it is split into parts).
    static Checkpoint open(const std::string& path);

    // No files: these tensors (name, dtype, shape), of random weights (random_weights.h).
    static Checkpoint random(std::vector<TensorInfo> tensors, std::uint64_t seed);

    Checkpoint(Checkpoint&&) noexcept;
    Checkpoint& operator=(Checkpoint&&) noexcept;
    ~Checkpoint();

    const std::string& path() const;
    // The GGUF behind it, else null: metadata of model and tokenizer live there.
    const GgufFile* gguf() const;
    const std::vector<TensorInfo>& tensors() const;
    const TensorInfo* find(const std::string& name) const;
    // The numbers of a matrix of random weights, which are made where they are wanted and are not read. Nothing for what is
    // in files, and for vectors.
    std::optional<RandomMatrix> random_matrix(const std::string& name) const;

    // Copies rows x columns of a matrix (or `rows` of a vector, `columns` then ignored) to `out`
    // ([rows.size(), columns.size()], host memory), and hands the mapped pages back to the system. `out` is F32, BF16
    // or F16, converted or dequantised, columns of a quantised tensor beginning and ending anywhere; or of the tensor's
    // own type, columns then being whole blocks. The row order of q_proj and k_proj is Hugging Face's also where a
    // llama-architecture GGUF interleaves them. Usage errors: no such tensor, a type that is no weight's, or a
    // value that is infinite or not a number (named by tensor, row and column).
    void read(const std::string& name, Range rows, Range columns, View out) const;

private:
    struct Impl;
    explicit Checkpoint(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace cake
