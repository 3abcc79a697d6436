// Finds, opens and lists the files of a checkpoint, whatever their kind.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/gguf.h"
#include "io/safetensors.h"

namespace cake {

struct StoredTensor {
    std::string name;            // Hugging Face's
    std::string stored;          // the type as the file spells it
    std::optional<DType> dtype;  // nothing where DType has no such type
    Shape shape;
    std::span<const std::byte> data;  // in the mapped file
    const MappedFile* file;
    std::int64_t head =
        0;  // rows interleave within heads of this size (gguf_names.h); 0: they do not
};

struct CheckpointFiles {
    std::vector<GgufFile> gguf;  // one kind of file or the other
    std::vector<SafetensorsFile> safetensors;
    std::vector<StoredTensor> tensors;
};

// `path`: a folder of safetensors files or a GGUF file, the first of its parts if it has several.
CheckpointFiles open_checkpoint_files(const std::string& path);

}  // namespace cake
