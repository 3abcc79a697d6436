// Each kernel of a backend by itself, at the shapes of a run: to hold against what bytes and operations allow.
#pragma once

#include <string>
#include <vector>

#include "engine/plan.h"

namespace cake {

// One call.
struct KernelTime {
    std::string
        part;  // "prefill": for a chunk, or a prompt's window, in a layer; "decode": in a layer of a step, or as `shape` says
    std::string kernel;  // as kernels/backend.h has it
    std::string shape;
    double seconds = 0;  // on the device's clock, calls one behind another: the best of five rounds
    double bytes = 0;    // that memory moves at least
    double flops = 0;    // 2 a multiply-add of matrices; 0: bound by memory alone
};

// What `rank` runs under the first policy of the plan: in prefill the last chunk of the longest prompt, in decoding a step of
// `batch` sequences. Numbers are random; weights are of the backend's type, or, where that is any, of the plan's, quantised
// ones as F32. Throws Error where memory is short.
std::vector<KernelTime> time_kernels(Backend& dev, const PlanInput& plan, int rank);

// A line each; rates beside percents of the ceilings.
std::string kernel_table(const std::vector<KernelTime>& times, const Ceilings& ceilings);
nlohmann::json to_json(const std::vector<KernelTime>& times);

}  // namespace cake
