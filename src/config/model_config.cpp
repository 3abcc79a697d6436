#include "config/model_config.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "config/model_limits.h"
#include "io/checkpoint_files.h"
#include "io/gguf.h"
#include "io/json_file.h"

namespace cake {
namespace {

namespace fs = std::filesystem;

bool begins_as_gguf(const fs::path& path) {
    char magic[4] = {};
    std::ifstream(path, std::ios::binary).read(magic, sizeof(magic));
    return std::string_view(magic, 4) == "GGUF";
}

// What a folder without config.json holds that the user may have meant.
std::string advice_for(const fs::path& folder) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder, ignored))
        if (entry.path().extension() == ".gguf")
            return fmt::format("; did you mean {}?", entry.path().string());
    return "; a model is a Hugging Face folder with a config.json, or a .gguf file";
}

// "/models/Llama-2-7b/config.json" -> "Llama-2-7b", also for "." and "folder/".
std::string folder_name(const fs::path& config_file) {
    std::error_code ignored;
    return fs::weakly_canonical(fs::absolute(config_file, ignored), ignored)
        .parent_path()
        .filename()
        .string();
}

// The context that scaled frequencies reach. llama3: max_position_embeddings says it already.
// linear: by transformers' documentation that key keeps the original context. yarn: both are seen.
std::int64_t stretched_context(const ModelConfig& config) {
    const RopeConfig& rope = config.rope;
    std::int64_t reach = 0;
    if (rope.scaling == RopeScaling::Linear)
        reach = std::int64_t(config.max_positions * rope.factor);
    if (rope.scaling == RopeScaling::Yarn)
        reach = std::int64_t(rope.original_max_positions * rope.factor);
    return std::clamp<std::int64_t>(reach, config.max_positions, ModelLimits::positions);
}

}  // namespace

void finish_model_config(ModelConfig& config, const std::string& file) {
    if (config.n_heads % config.n_kv_heads != 0)
        throw usage_error(
            "{}: {} query heads cannot be dealt to {} KV heads: the number has to be a multiple",
            file, config.n_heads, config.n_kv_heads);
    if (config.d_head % 8 != 0 || config.d_head > ModelLimits::d_head)
        throw usage_error("{}: heads of width {} are not supported: a multiple of 8 up to {} is",
                          file, config.d_head, ModelLimits::d_head);
    if (std::int64_t(config.n_heads) * config.d_head > ModelLimits::width)
        throw usage_error(
            "{}: {} query heads of width {} are not supported: their product is at most {}", file,
            config.n_heads, config.d_head, ModelLimits::width);
    config.max_positions = int(stretched_context(config));
}

std::int64_t ModelConfig::parameters() const {
    const std::int64_t d = d_model;
    const std::int64_t q_rows = std::int64_t(n_heads) * d_head;
    const std::int64_t kv_rows = std::int64_t(n_kv_heads) * d_head;
    const std::int64_t attention =
        d * (q_rows + 2 * kv_rows) + q_rows * d + (qkv_bias ? q_rows + 2 * kv_rows : 0);
    const std::int64_t mlp = 3 * d * d_ff;
    const std::int64_t norms = 2 * d;
    const std::int64_t embedding = vocab * d;
    return n_layers * (attention + mlp + norms) + d + embedding * (tied_head ? 1 : 2);
}

ModelConfig read_model_config(const std::string& path) {
    std::error_code ignored;
    fs::path file = path;
    if (fs::is_directory(file, ignored)) {
        file /= "config.json";
        if (!fs::exists(file, ignored))
            throw usage_error("{}: there is no config.json in this folder{}", path,
                              advice_for(path));
    } else if (!fs::exists(file, ignored)) {
        throw usage_error("{}: there is no such model file or folder",
                          path.empty() ? "model.path is empty" : path);
    }
    if (file.extension() == ".gguf" || begins_as_gguf(file))
        return model_config_from_gguf(open_checkpoint_files(file.string()).gguf);
    return model_config_from_json(read_json_file(file.string()), file.string(), folder_name(file));
}

}  // namespace cake
