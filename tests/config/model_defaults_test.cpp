#include <gmock/gmock.h>

#include "config/compiled_files.h"
#include "config/model_config.h"
#include "config/run_config.h"

namespace cake {
namespace {

ModelConfig model(const char* architecture, int layers, int d_model, int d_ff, int kv_heads,
                  int vocab, int context) {
    ModelConfig config;
    config.architecture = architecture;
    config.n_layers = layers;
    config.d_model = d_model;
    config.d_ff = d_ff;
    config.n_heads = 32;
    config.n_kv_heads = kv_heads;
    config.d_head = d_model / 32;
    config.vocab = vocab;
    config.max_positions = context;
    return config;
}

struct Known {
    ModelConfig model;
    std::string file;
    double tau_1024[2], tau_128[2];
    int longest_prompt;
};

// Sizes: the config.json files of the models. Values: the official repository.
std::vector<Known> known_models() {
    return {
        {model("llama", 32, 4096, 14336, 8, 128256, 131072),
         "llama3.1-8b",
         {1.6, 0.4},
         {1.6, 0.6},
         127500},
        {model("llama", 32, 4096, 11008, 32, 32000, 4096),
         "llama2-7b-chat",
         {1.9, 1.8},
         {0.9, 2.3},
         3500},
        {model("llama", 40, 5120, 13824, 40, 32000, 4096),
         "llama2-13b-chat",
         {0.5, 0.4},
         {1.8, 2.0},
         3500},
        {model("mistral", 32, 4096, 14336, 8, 32768, 32768),
         "mistral-7b-v0.3",
         {0.8, 0.5},
         {1.0, 0.8},
         31500},
        {model("llama", 32, 4096, 14336, 8, 32768, 32768),
         "mistral-7b-v0.3",
         {0.8, 0.5},
         {1.0, 0.8},
         31500},
        {model("qwen2", 28, 3584, 18944, 4, 152064, 32768),
         "qwen2.5-7b",
         {1.5, 0.6},
         {0.4, 0.6},
         31500},
        {model("llama", 30, 576, 1536, 3, 49152, 8192),
         "smollm2-135m",
         {1.6, 0.6},
         {1.6, 0.6},
         7500},
    };
}

TEST(ModelDefaults, HaveTheOfficialValuesOfKnownModels) {
    for (const Known& known : known_models()) {
        const ModelDefaults large = model_defaults(known.model, 1024);
        EXPECT_EQ(large.file, "configs/models/" + known.file + ".yaml");
        EXPECT_EQ(large.tau1, known.tau_1024[0]) << known.file;
        EXPECT_EQ(large.tau2, known.tau_1024[1]) << known.file;
        EXPECT_EQ(large.longest_prompt, known.longest_prompt) << known.file;
        const ModelDefaults small = model_defaults(known.model, 128);
        EXPECT_EQ(small.tau1, known.tau_128[0]) << known.file;
        EXPECT_EQ(small.tau2, known.tau_128[1]) << known.file;
    }
}

TEST(ModelDefaults, TakeTheNearestCacheSizeInLog2) {
    const ModelConfig qwen = model("qwen2", 28, 3584, 18944, 4, 152064, 32768);
    // The middle of 128 and 1024 is 362.04.
    for (int size : {1, 64, 200, 362})
        EXPECT_EQ(model_defaults(qwen, size).tau1, 0.4) << size;
    for (int size : {363, 512, 4096, 1 << 27})
        EXPECT_EQ(model_defaults(qwen, size).tau1, 1.5) << size;
}

TEST(ModelDefaults, AreOneForOtherModels) {
    const ModelConfig llama3 = model("llama", 32, 4096, 14336, 8, 128256, 8192);  // not 3.1
    const ModelConfig mistral1 = model("mistral", 32, 4096, 14336, 8, 32000, 32768);
    for (const ModelConfig& other : {llama3, mistral1, ModelConfig()}) {
        const ModelDefaults defaults = model_defaults(other, 1024);
        EXPECT_EQ(defaults.file, "");
        EXPECT_EQ(defaults.tau1, 1);
        EXPECT_EQ(defaults.tau2, 1);
        EXPECT_EQ(defaults.longest_prompt, 0);
    }
}

TEST(ModelDefaults, ComeFromFilesOfWhichEachIsFoundBySomeModel) {
    std::vector<std::string> found;
    for (const Known& known : known_models())
        found.push_back(model_defaults(known.model, 1024).file);
    for (const CompiledFile& file : model_files())
        EXPECT_THAT(found, testing::Contains(file.path));
}

}  // namespace
}  // namespace cake
