// config.json, metadata of GGUF, YAML configurations and machines of any bytes: read, or refused with a usage
// error. The first byte chooses.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "config/machine.h"
#include "config/model_config.h"
#include "config/run_config.h"
#include "expect_usage_error.h"
#include "io/json_file.h"
#include "memory_file.h"

namespace {

void check(const cake::ModelConfig& config) {
    for (float frequency : cake::rope_inv_freq(config.rope, config.d_head))
        if (!(frequency >= 0))  // not a number
            std::abort();
    if (config.parameters() <= 0 || config.max_positions <= 0)
        std::abort();
    cake::model_defaults(config, 128);
}

void read_model(const std::string& text) {
    check(
        cake::model_config_from_json(cake::parse_json(text, "config.json"), "config.json", "fuzz"));
}

void read_gguf(const std::string& bytes) {
    const MemoryFile file("GGUF" + bytes);
    check(cake::read_model_config(file.path()));
}

void read_run(const std::string& text) {
    cake::RunConfig config;
    cake::apply_config_text(config, text, "fuzz.yaml");
    // What was read can be dumped, and the dump read again.
    const auto dump = cake::to_json(config);
    cake::RunConfig again;
    cake::apply_config_text(again, dump.dump(), "dump");
    if (cake::to_json(again) != dump)
        std::abort();
}

void read_machine_file(const std::string& text) {
    const auto dump = cake::to_json(cake::machine_from_text(text, "fuzz.yaml"));
    if (cake::to_json(cake::machine_from_text(dump.dump(), "dump")) != dump)
        std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    const std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
    cake::expect_success_or_usage_error([&] {
        switch (data[0] % 4) {
            case 0: read_model(text); break;
            case 1: read_run(text); break;
            case 2: read_gguf(text); break;
            default: read_machine_file(text);
        }
    });
    return 0;
}
