// The files of configs/models, configs/machines and configs/evaluations as CMake compiled them in.
#pragma once

#include <span>

namespace cake {

struct CompiledFile {
    const char* path;  // "configs/models/smollm2-135m.yaml"
    const char* text;
};

// Sorted by path.
std::span<const CompiledFile> model_files();
std::span<const CompiledFile> machine_files();
std::span<const CompiledFile> evaluation_files();

}  // namespace cake
