// `cake version`: this build, the libraries in use, the devices seen.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "comm/version.h"

#include <array>
#include <functional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <oneapi/dnnl/dnnl.hpp>
#include <pcre2.h>
#include <spdlog/version.h>

#include "cli/cli.h"
#include "comm/nccl.h"
#include "engine/plan.h"
#include "kernels/backend.h"
#include "kernels/cuda/device.h"

namespace cake {
namespace {

std::string onednn_version() {
    const dnnl_version_t* version = dnnl_version();
    return fmt::format("{}.{}.{}", version->major, version->minor, version->patch);
}

std::string pcre2_version() {
    std::array<char, 64> text{};  // "10.42 2022-12-11"; 24 bytes are promised to be enough
    pcre2_config(PCRE2_CONFIG_VERSION, text.data());
    const std::string version = text.data();
    return version.substr(0, version.find(' '));
}

std::string fmt_version() {
    return fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100);
}

std::string compiler() {
#ifdef __clang__
    return "clang " __clang_version__;
#else
    return "g++ " __VERSION__;
#endif
}

using Line = std::function<void(std::string_view what, const std::string& value)>;

// What the build has for GPUs, and what this machine has of them.
void describe_gpus(const Line& line) {
    const std::string absent = "not part of this build";
    const gpu::Versions v = gpu::versions();
    const auto release = [](int cuda) {
        return fmt::format("{}.{}", cuda / 1000, cuda % 1000 / 10);
    };
    line("cuda", v.runtime ? fmt::format("{}, architectures {}", release(v.runtime),
                                         CAKE_CUDA_ARCHITECTURES)
                           : absent);
    if (v.runtime)
        line("cuBLASLt", v.gemm_library
                             ? fmt::format("{}.{}.{}", v.gemm_library / 10000,
                                           v.gemm_library / 100 % 100, v.gemm_library % 100)
                             : "not found");
    if (v.runtime)
        line("attention", v.attention);
    line("NCCL", nccl_version().empty() ? absent : nccl_version());
    if (v.runtime)
        line("driver", v.driver ? "CUDA " + release(v.driver) : "none");

    const gpu::DeviceCount devices = gpu::count_devices();
    for (int i = 0; i < devices.count; ++i) {
        const gpu::DeviceProperties p = gpu::device_properties(i);
        line(fmt::format("gpu {}", i),
             fmt::format("{}, {}, compute capability {}.{}, at {}", p.name,
                         human_bytes(double(p.memory_bytes)), p.major, p.minor, p.bus_id));
    }
    if (devices.count == 0)
        line("gpus", devices.reason);
}

std::string report() {
    std::string text;
    const Line line = [&](std::string_view what, const std::string& value) {
        text += fmt::format("{:<14} {}\n", what, value);
    };
    const std::string sanitizers = CAKE_SANITIZE;
    line("cake", CAKE_VERSION);
    line("build", fmt::format("{}, {}", CAKE_BUILD_TYPE, compiler()));
    line("sanitizers", sanitizers.empty() ? "none" : sanitizers);

    line("MPI", mpi_library_version());
    line("oneDNN", onednn_version());
    line("yaml-cpp", CAKE_YAML_CPP_VERSION);
    line("nlohmann-json", fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR,
                                      NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH));
    line("spdlog", fmt::format("{}.{}.{}", SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH));
    line("fmt", fmt_version());
    line("PCRE2", pcre2_version());
    line("CLI11", CLI11_VERSION);

    const DeviceInfo cpu = make_cpu_backend(0)->info();
    line("cpu", fmt::format("{}, {} threads", cpu.name, cpu.threads));
    describe_gpus(line);
    return text;
}

}  // namespace

ExitCode run_version(CommandContext& context) {
    CLI::App app("This build, the libraries in use, the devices seen", "cake version");
    if (const auto over = parse_arguments(context, app))
        return *over;

    std::string text;
    context.world.agree([&] { text = report(); });
    print_once(context, text);
    return ExitCode::Done;
}

}  // namespace cake
