// The files of configs/models as CMake compiled them in.
#pragma once

#include <span>

namespace cake {

struct ModelFile {
    const char* path;  // "configs/models/smollm2-135m.yaml"
    const char* text;
};

std::span<const ModelFile> model_files();  // sorted by path

}  // namespace cake
