#include "cli/model_facts.h"

#include <filesystem>
#include <map>

#include "base/error.h"
#include "config/model_config.h"
#include "config/run_config.h"
#include "io/checkpoint.h"
#include "io/gguf.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace cake {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json rope_facts(const RopeConfig& rope) {
    json facts{{"theta", rope.theta}, {"scaling", name(rope.scaling)}};
    if (rope.scaling == RopeScaling::None)
        return facts;
    facts["factor"] = rope.factor;
    if (rope.original_max_positions > 0)
        facts["original_context"] = rope.original_max_positions;
    if (rope.scaling == RopeScaling::Yarn)
        facts["attention_factor"] = rope.attention_factor;
    return facts;
}

json config_facts(const ModelConfig& model) {
    // Of the file for any cache size: which one matches does not depend on it.
    const ModelDefaults defaults = model_defaults(model, 1024);
    return {{"name", model.name},
            {"architecture", model.architecture},
            {"layers", model.n_layers},
            {"d_model", model.d_model},
            {"heads", model.n_heads},
            {"kv_heads", model.n_kv_heads},
            {"head_dim", model.d_head},
            {"d_ff", model.d_ff},
            {"vocab", model.vocab},
            {"context", model.max_positions},
            {"sliding_window", model.sliding_window},
            {"parameters", model.parameters()},
            {"dtype", name(model.dtype)},
            {"qkv_bias", model.qkv_bias},
            {"tied_head", model.tied_head},
            {"rope", rope_facts(model.rope)},
            {"defaults", defaults.file.empty() ? json() : json(defaults.file)}};
}

json tensor_facts(const Checkpoint& checkpoint) {
    struct Sum {
        std::int64_t tensors = 0;
        std::size_t bytes = 0;
    };
    std::map<std::string, Sum> by_dtype;
    std::size_t bytes = 0;
    for (const TensorInfo& tensor : checkpoint.tensors()) {
        Sum& sum = by_dtype[std::string(name(tensor.dtype))];
        ++sum.tensors;
        sum.bytes += tensor.bytes;
        bytes += tensor.bytes;
    }
    json dtypes = json::array();
    for (const auto& [dtype, sum] : by_dtype)
        dtypes.push_back({{"dtype", dtype}, {"tensors", sum.tensors}, {"bytes", sum.bytes}});
    return {{"count", checkpoint.tensors().size()}, {"bytes", bytes}, {"dtypes", dtypes}};
}

json tokenizer_facts(const Tokenizer& tokenizer) {
    const auto token = [&](TokenId id) {
        const bool known = id >= 0 && id < tokenizer.vocabulary_size();
        return json{{"id", id}, {"text", known ? tokenizer.token(id) : ""}};
    };
    json ends = json::array();
    for (TokenId id : tokenizer.end_of_sequence())
        ends.push_back(token(id));
    return {{"kind", tokenizer.kind()},
            {"tokens", tokenizer.vocabulary_size()},
            {"bos", tokenizer.bos() ? token(*tokenizer.bos()) : json()},
            {"adds_bos", tokenizer.adds_bos()},
            {"eos", ends},
            {"chat_template", detect_chat_template(tokenizer)}};
}

template <typename Open>
json tokenizer_facts_or_error(Open open) {
    try {
        return tokenizer_facts(open());
    } catch (const Error& error) {  // the rest of the model is worth telling
        return {{"error", error.what()}};
    }
}

}  // namespace

json model_facts(const std::string& path) {
    const bool is_folder = fs::is_directory(path);
    const ModelConfig model = read_model_config(path);
    json facts{{"path", path}, {"format", is_folder ? "Hugging Face folder" : "config.json alone"}};
    facts.update(config_facts(model));
    facts["tensors"] = nullptr;
    facts["tokenizer"] = nullptr;

    if (is_folder) {
        if (has_weights(path))
            facts["tensors"] = tensor_facts(Checkpoint::open(path));
        if (fs::exists(fs::path(path) / "tokenizer.json"))
            facts["tokenizer"] =
                tokenizer_facts_or_error([&] { return Tokenizer::from_folder(path); });
    } else if (fs::path(path).extension() != ".json") {
        const Checkpoint checkpoint = Checkpoint::open(path);
        facts["format"] = "GGUF";
        facts["tensors"] = tensor_facts(checkpoint);
        if (checkpoint.gguf())
            facts["tokenizer"] =
                tokenizer_facts_or_error([&] { return Tokenizer::from_gguf(*checkpoint.gguf()); });
    }
    return facts;
}

}  // namespace cake
