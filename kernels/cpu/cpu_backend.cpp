#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <fstream>
#include <string>

#include <omp.h>

#include "kernels/cpu/matmul.h"

namespace cake {

namespace {

// Value of the first line "key : value" of a file under /proc; empty where there is none.
std::string proc_value(const char* file, const std::string& key) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
        const std::size_t colon = line.find(':');
        if (colon == std::string::npos || line.compare(0, key.size(), key) != 0)
            continue;
        const std::size_t value = line.find_first_not_of(" \t", colon + 1);
        return value == std::string::npos ? std::string() : line.substr(value);
    }
    return {};
}

std::size_t meminfo_bytes(const std::string& key) {
    const std::string kib = proc_value("/proc/meminfo", key);
    return kib.empty() ? 0 : std::stoull(kib) * 1024;
}

// Number in a file of the memory cgroup (v2, else v1); `otherwise` where it has none, or says
// "max".
std::size_t cgroup_bytes(const char* v2, const char* v1, std::size_t otherwise) {
    std::size_t bytes = 0;
    if (std::ifstream(std::string("/sys/fs/cgroup/") + v2) >> bytes ||
        std::ifstream(std::string("/sys/fs/cgroup/memory/") + v1) >> bytes)
        return bytes;
    return otherwise;
}

}  // namespace

CpuBackend::CpuBackend(int threads)
    : threads_(threads > 0 ? threads : omp_get_num_procs()), dnnl_(std::make_unique<Dnnl>()) {}

CpuBackend::~CpuBackend() = default;

// A container sees the whole machine in /proc/meminfo, and its own limit in the cgroup's files.
DeviceInfo CpuBackend::info() const {
    DeviceInfo out;
    out.name = proc_value("/proc/cpuinfo", "model name");
    if (out.name.empty())
        out.name = "CPU";
    out.memory_bytes = meminfo_bytes("MemTotal");
    out.free_bytes = meminfo_bytes("MemAvailable");
    const std::size_t limit = cgroup_bytes("memory.max", "memory.limit_in_bytes", out.memory_bytes);
    if (limit < out.memory_bytes) {
        const std::size_t used = cgroup_bytes("memory.current", "memory.usage_in_bytes", 0);
        out.memory_bytes = limit;
        out.free_bytes = std::min(out.free_bytes, limit - std::min(used, limit));
    }
    out.threads = threads_;
    return out;
}

std::unique_ptr<Backend> make_cpu_backend(int threads) {
    CAKE_CHECK(threads >= 0, "{} threads", threads);
    return std::make_unique<CpuBackend>(threads);
}

}  // namespace cake
