// What a machine can do, for predictions on paper (engine/roofline.h): figures out of configs/machines/*.yaml, or of any
// file with the same keys.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

namespace cake {

// Rates are those that large, well-shaped work reaches, not the data sheet's. 1 GB = 1e9 bytes, 1 TFLOP = 1e12. A
// device carries one rank: a GPU, or a core.
struct Machine {
    std::string name;
    int devices_per_node = 1;
    // The four figures below are a node's, which its ranks divide among them: cores on one memory.
    bool shared = false;
    std::size_t memory_bytes = 0;  // that the ranks may take of a device
    double read_gb_s = 0;          // reading memory in long runs
    double gemm_tflop_s = 0;       // linear layers of many rows
    double attention_tflop_s = 0;  // causal attention of a prompt, masked half not counted
    // Within a node: what each device sends (bus bandwidth of a large all-reduce: bytes * 2 (R-1)/R / time), and what an
    // all-reduce of a few KiB takes, by however many devices.
    double link_gb_s = 0;
    double link_latency_us = 0;
    // Between nodes: what each device sends, and what a small all-reduce takes more for each doubling of the nodes.
    double network_gb_s = 0;
    double network_latency_us = 0;
    // What its ranks compute with, as a run's `backend`: cuda, or cpu. Types follow from it: bf16, or f32.
    std::string backend = "cpu";

    int nodes(int ranks) const { return (ranks + devices_per_node - 1) / devices_per_node; }
};

// `which`: the name of a file in configs/machines without its ending ("h100"; compiled in), or the path of a YAML file:
// what has a slash or ends in .yaml or .yml. Usage errors: an unknown name, with the nearest; a key that is unknown (with
// the nearest), set twice, not allowed or missing, with file and line. Every key is needed but `shared`.
Machine read_machine(const std::string& which);
// The same from text in memory; `name` is what messages call it.
Machine machine_from_text(const std::string& text, const std::string& name);

// All keys, as a file has them.
nlohmann::json to_json(const Machine& machine);

}  // namespace cake
