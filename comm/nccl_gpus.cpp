#include "comm/nccl_gpus.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include <cuda_runtime.h>
#include <nccl.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/nccl.h"

namespace cake {
namespace {

void check(cudaError_t error, const char* call) {
    if (error != cudaSuccess)
        throw Error(fmt::format("{}: {}", call, cudaGetErrorString(error)));
}

}  // namespace

int nccl_version_code() {
    int version = 0;
    return ncclGetVersion(&version) == ncclSuccess ? version : 0;
}

std::string place_of_gpu() {
    int device = 0;
    char bus[32] = {};
    check(cudaGetDevice(&device), "cudaGetDevice");
    check(cudaDeviceGetPCIBusId(bus, int(sizeof(bus)), device), "cudaDeviceGetPCIBusId");
    return fmt::format("{} {}", host_name(), bus);
}

void refuse_shared_gpus(const std::vector<std::string>& gpus) {
    if (nccl_shares_gpus())
        return;
    for (auto gpu = gpus.begin(); gpu != gpus.end(); ++gpu) {
        const auto first = std::find(gpus.begin(), gpu, *gpu);
        if (first != gpu)
            throw usage_error(
                "ranks {} and {} have the same GPU, {}, and NCCL {} wants one for each: start one "
                "rank per GPU, or let ranks share one with --share-gpu",
                first - gpus.begin(), gpu - gpus.begin(), *gpu, nccl_version());
    }
}

std::string nccl_version() {
    const int version = nccl_version_code();
    if (version == 0)
        return {};
    return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

bool nccl_shares_gpus() {
    const char* value = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");
    return nccl_version_code() >= NCCL_VERSION(2, 30, 0) && value && std::string_view(value) == "1";
}

}  // namespace cake
