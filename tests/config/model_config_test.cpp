#include "config/model_config.h"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "io/json_file.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

// What Llama-3.1-8B's config.json says, without what does not matter here.
json llama() {
    return json::parse(R"({
        "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": 4096,
        "intermediate_size": 14336, "max_position_embeddings": 131072, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
        "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 128256, "attention_bias": false,
        "mlp_bias": false})");
}

json qwen2() {
    return json::parse(R"({
        "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "hidden_size": 3584,
        "intermediate_size": 18944, "max_position_embeddings": 32768, "max_window_layers": 28,
        "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0, "sliding_window": 131072, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16", "use_sliding_window": false, "vocab_size": 152064})");
}

json mistral() {
    json config = llama();
    config["architectures"] = json::array({"MistralForCausalLM"});
    config.erase("rope_scaling");
    return config;
}

json with(json config, const std::string& key, json value) {
    config[key] = std::move(value);
    return config;
}

ModelConfig read(const json& config) {
    return model_config_from_json(config, "config.json", "the-folder");
}

std::string complaint(const json& config) {
    return usage_message([&] { read(config); });
}

TEST(ModelConfig, ReadsLlama31) {
    const ModelConfig config = read(llama());
    EXPECT_EQ(config.architecture, "llama");
    EXPECT_EQ(config.name, "the-folder");
    EXPECT_EQ(config.n_layers, 32);
    EXPECT_EQ(config.d_model, 4096);
    EXPECT_EQ(config.n_heads, 32);
    EXPECT_EQ(config.n_kv_heads, 8);
    EXPECT_EQ(config.group(), 4);
    EXPECT_EQ(config.d_head, 128);
    EXPECT_EQ(config.d_ff, 14336);
    EXPECT_EQ(config.vocab, 128256);
    EXPECT_EQ(config.max_positions, 131072);
    EXPECT_EQ(config.sliding_window, 0);
    EXPECT_FLOAT_EQ(config.rms_eps, 1e-5f);
    EXPECT_EQ(config.rope.theta, 500000);
    EXPECT_EQ(config.rope.scaling, RopeScaling::Llama3);
    EXPECT_EQ(config.rope.original_max_positions, 8192);
    EXPECT_EQ(config.dtype, DType::BF16);
    EXPECT_FALSE(config.qkv_bias);
    EXPECT_FALSE(config.tied_head);
    EXPECT_EQ(config.parameters(), 8'030'261'248);  // as Meta and the hub count them
}

TEST(ModelConfig, ReadsQwen25) {
    const ModelConfig config = read(qwen2());
    EXPECT_EQ(config.architecture, "qwen2");
    EXPECT_TRUE(config.qkv_bias);
    EXPECT_EQ(config.sliding_window, 0);
    EXPECT_EQ(config.parameters(), 7'615'616'512);
}

TEST(ModelConfig, ReadsTheTinyModelsOfTheCaptures) {
    for (const char* name : {"tiny-llama", "tiny-mistral", "tiny-qwen2", "tiny-llama-bf16"}) {
        const std::string folder = CAKE_SOURCE_DIR "/tests/golden/" + std::string(name) + "/model";
        const ModelConfig config = read_model_config(folder);
        EXPECT_EQ(config.d_head, 16) << name;
        EXPECT_EQ(config.vocab, 512) << name;
        EXPECT_EQ(config.name, "model");
        EXPECT_EQ(config.dtype, std::string(name) == "tiny-llama-bf16" ? DType::BF16 : DType::F32);
        EXPECT_EQ(read_model_config(folder + "/config.json").parameters(), config.parameters());
        EXPECT_EQ(read_model_config(folder + "/").name, "model");
    }
}

TEST(ModelConfig, FillsInWhatOlderFilesLeaveOut) {
    json config = llama();
    for (const char* key : {"rope_theta", "rope_scaling", "rms_norm_eps", "num_key_value_heads",
                            "tie_word_embeddings", "torch_dtype", "hidden_act"})
        config.erase(key);
    const ModelConfig read_config = read(config);
    EXPECT_EQ(read_config.rope.theta, 10000);
    EXPECT_EQ(read_config.rope.scaling, RopeScaling::None);
    EXPECT_FLOAT_EQ(read_config.rms_eps, 1e-6f);
    EXPECT_EQ(read_config.n_kv_heads, 32);
    EXPECT_FALSE(read_config.tied_head);
    EXPECT_EQ(read_config.dtype, DType::F32);
    EXPECT_EQ(read(with(llama(), "num_key_value_heads", nullptr)).n_kv_heads, 32);
}

TEST(ModelConfig, ReadsTheNamesThatNewerFilesUse) {
    json config = llama();
    config["dtype"] = config["torch_dtype"];
    config["rope_parameters"] = config["rope_scaling"];
    config["rope_parameters"]["rope_theta"] = 7000;
    for (const char* key : {"torch_dtype", "rope_scaling", "rope_theta"})
        config.erase(key);
    EXPECT_EQ(read(config).dtype, DType::BF16);
    EXPECT_EQ(read(config).rope.theta, 7000);
    EXPECT_EQ(read(config).rope.scaling, RopeScaling::Llama3);
}

TEST(ModelConfig, TakesTheNameFromTheFileOrTheFolder) {
    EXPECT_EQ(read(with(llama(), "_name_or_path", "meta-llama/Llama-2-7b")).name, "Llama-2-7b");
    EXPECT_EQ(read(with(llama(), "_name_or_path", "")).name, "the-folder");
}

TEST(ModelConfig, ReadsHeadsWhoseWidthIsSaidApart) {
    json config = with(mistral(), "head_dim", 96);
    EXPECT_EQ(read(config).d_head, 96);
    config["head_dim"] = nullptr;
    EXPECT_EQ(read(config).d_head, 128);
}

TEST(ModelConfig, KnowsWhichLayersSlide) {
    EXPECT_EQ(read(with(mistral(), "sliding_window", 4096)).sliding_window, 4096);
    EXPECT_EQ(read(with(mistral(), "sliding_window", nullptr)).sliding_window, 0);
    EXPECT_EQ(read(with(llama(), "sliding_window", 4096)).sliding_window, 0);

    json sliding = with(qwen2(), "use_sliding_window", true);
    EXPECT_EQ(read(sliding).sliding_window, 0);  // all 28 layers are below max_window_layers
    EXPECT_THAT(complaint(with(sliding, "max_window_layers", 14)),
                HasSubstr("layers differ in their attention"));
    EXPECT_EQ(read(with(sliding, "max_window_layers", 0)).sliding_window, 131072);

    json typed =
        with(with(mistral(), "sliding_window", 64), "layer_types", json(32, "full_attention"));
    EXPECT_EQ(read(typed).sliding_window, 0);
    typed["layer_types"][3] = "sliding_attention";
    EXPECT_THAT(complaint(typed),
                HasSubstr("layer_types is a list of 32; supported are full_attention in all"));
}

TEST(ModelConfig, NamesEveryKeyThatIsMissing) {
    for (const char* key : {"num_hidden_layers", "hidden_size", "num_attention_heads",
                            "intermediate_size", "vocab_size", "max_position_embeddings"}) {
        json config = llama();
        config.erase(key);
        EXPECT_EQ(complaint(config), "config.json: " + std::string(key) + " is missing");
    }
    json config = llama();
    config.erase("architectures");
    EXPECT_THAT(complaint(config), HasSubstr("neither architectures nor model_type"));
    EXPECT_EQ(read(with(config, "model_type", "mistral")).architecture, "mistral");
}

TEST(ModelConfig, RefusesAbsurdSizesAndSaysWhatIsAllowed) {
    for (const char* key :
         {"num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads",
          "intermediate_size", "vocab_size", "max_position_embeddings"})
        for (const json& value : {json(0), json(-1), json(1e300), json(1.5), json("8"), json(true),
                                  json::array(), json(std::uint64_t(-1)), json(1'000'000'000)})
            EXPECT_THAT(complaint(with(llama(), key, value)),
                        AllOf(HasSubstr("config.json: " + std::string(key) + " is "),
                              HasSubstr("a whole number from 1")))
                << key << " " << value;
    EXPECT_THAT(complaint(with(llama(), "rope_theta", -1)),
                HasSubstr("rope_theta is -1; a number from 2"));
    EXPECT_THAT(complaint(with(llama(), "rms_norm_eps", "small")),
                HasSubstr("rms_norm_eps is 'small'"));
}

TEST(ModelConfig, RefusesHeadsThatDoNotFit) {
    EXPECT_THAT(complaint(with(llama(), "num_key_value_heads", 7)),
                HasSubstr("32 query heads cannot be dealt to 7"));
    EXPECT_THAT(complaint(with(llama(), "num_attention_heads", 24)),
                HasSubstr("multiple of num_attention_heads (24)"));
    EXPECT_THAT(complaint(with(llama(), "head_dim", 12)),
                HasSubstr("heads of width 12 are not supported"));
    EXPECT_THAT(complaint(with(llama(), "head_dim", 264)), HasSubstr("a multiple of 8 up to 256"));
}

TEST(ModelConfig, RefusesWhatItDoesNotCompute) {
    EXPECT_THAT(complaint(with(llama(), "architectures", json::array({"GemmaForCausalLM"}))),
                AllOf(HasSubstr("'GemmaForCausalLM' is not supported"),
                      HasSubstr("LlamaForCausalLM, Mistral")));
    EXPECT_THAT(complaint(with(llama(), "architectures", 3)), HasSubstr("architectures is 3"));
    EXPECT_THAT(complaint(with(llama(), "hidden_act", "gelu")),
                HasSubstr("hidden_act is 'gelu'; supported is silu"));
    EXPECT_THAT(complaint(with(llama(), "attention_bias", true)),
                HasSubstr("attention_bias is true"));
    EXPECT_THAT(complaint(with(llama(), "mlp_bias", true)), HasSubstr("mlp_bias is true"));
    EXPECT_THAT(complaint(with(llama(), "torch_dtype", "float8_e4m3fn")),
                HasSubstr("float32, bfloat16 and float16"));
    EXPECT_THAT(complaint(with(llama(), "quantization_config", {{"bits", 4}})),
                HasSubstr("or a .gguf file"));
    EXPECT_THAT(complaint(with(llama(), "partial_rotary_factor", 0.5)),
                HasSubstr("partial_rotary_factor is 0.5"));
}

TEST(ModelConfig, RefusesScalingItDoesNotKnowOrCannotDo) {
    const auto scaled = [](const char* text) {
        return with(llama(), "rope_scaling", json::parse(text));
    };
    EXPECT_THAT(
        complaint(scaled(R"({"type": "dynamic", "factor": 2})")),
        HasSubstr(
            "rope_scaling.type is 'dynamic'; supported are default, linear, llama3 and yarn"));
    EXPECT_THAT(complaint(scaled(R"({"type": "linear"})")),
                HasSubstr("rope_scaling.factor is missing"));
    EXPECT_THAT(complaint(scaled(R"({"type": "linear", "factor": 0})")),
                HasSubstr("rope_scaling.factor is 0"));
    EXPECT_THAT(complaint(scaled(R"({"rope_type": "llama3", "factor": 8})")),
                HasSubstr("the llama3 rule needs it"));
    EXPECT_THAT(complaint(scaled(R"({"type": "yarn", "factor": 4, "truncate": false})")),
                HasSubstr("truncate is false"));
    EXPECT_THAT(complaint(scaled("[]")), HasSubstr("rope_scaling is a list of 0 where an object"));
    EXPECT_EQ(read(scaled(R"({"rope_type": "default"})")).rope.scaling, RopeScaling::None);
}

TEST(ModelConfig, SurvivesAnyKindOfJson) {
    for (const char* text : {"null", "[]", "3", "\"x\"", "{}", "[{}]"})
        EXPECT_THAT(complaint(json::parse(text)), HasSubstr("config.json: ")) << text;
    // Any value under any key: read or refused, never worse.
    const json config = llama();
    for (const auto& item : config.items())
        for (const char* value : {"null", "[]", "{}", "-3", "1e308", "\"\\u0000\"", "[[]]", "true",
                                  "18446744073709551615"})
            try {
                read(with(config, item.key(), json::parse(value)));
            } catch (const Error& error) {
                EXPECT_EQ(error.code(), ExitCode::Usage) << error.what();
            }
}

TEST(ModelConfig, NamesPathsThatAreNoModels) {
    const TempFolder folder;
    EXPECT_THAT(usage_message([&] { read_model_config(folder.file("none")); }),
                HasSubstr("no such model file"));
    EXPECT_THAT(usage_message([&] { read_model_config(""); }), HasSubstr("model.path is empty"));
    EXPECT_THAT(usage_message([&] { read_model_config(folder.path()); }),
                HasSubstr("no config.json in this folder"));
    folder.write("model.gguf", "x");
    EXPECT_THAT(usage_message([&] { read_model_config(folder.path()); }),
                HasSubstr("did you mean "));
    EXPECT_THAT(usage_message([&] { read_model_config(folder.write("config.json", "{")); }),
                HasSubstr("config.json:1"));
}

}  // namespace
}  // namespace cake
