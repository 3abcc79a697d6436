#include "kernels/cuda/cublas_lt.h"

#include <dlfcn.h>

#include "base/error.h"

#define CAKE_TEXT_OF(x) #x
#define CAKE_TEXT(x) CAKE_TEXT_OF(x)

namespace cake::gpu {
namespace {

constexpr const char* kLibrary = "libcublasLt.so." CAKE_TEXT(CUBLAS_VER_MAJOR);

CublasLt load() {
    void* const library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);  // for good
    if (!library)
        throw Error(fmt::format("cuBLASLt cannot be loaded: {}", dlerror()));
    CublasLt out;
    const auto find = [&](auto& function, const char* name) {
        function =
            reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
        if (!function)
            throw Error(fmt::format("{} has no {}", kLibrary, name));
    };
    find(out.version, "cublasLtGetVersion");
    find(out.status_string, "cublasLtGetStatusString");
    find(out.create, "cublasLtCreate");
    find(out.destroy, "cublasLtDestroy");
    find(out.layout_create, "cublasLtMatrixLayoutCreate");
    find(out.layout_destroy, "cublasLtMatrixLayoutDestroy");
    find(out.product_create, "cublasLtMatmulDescCreate");
    find(out.product_destroy, "cublasLtMatmulDescDestroy");
    find(out.product_set, "cublasLtMatmulDescSetAttribute");
    find(out.preference_create, "cublasLtMatmulPreferenceCreate");
    find(out.preference_destroy, "cublasLtMatmulPreferenceDestroy");
    find(out.preference_set, "cublasLtMatmulPreferenceSetAttribute");
    find(out.heuristic, "cublasLtMatmulAlgoGetHeuristic");
    find(out.matmul, "cublasLtMatmul");
    return out;
}

}  // namespace

const CublasLt& cublas_lt() {
    static const CublasLt loaded = load();
    return loaded;
}

}  // namespace cake::gpu
