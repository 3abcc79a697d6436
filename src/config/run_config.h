// The configuration of a run: files, then --set, then flags; later wins. docs/interface.md lists the keys.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace cake {

struct ModelConfig;

// Cells of the policy table that the user set; what is not set comes from the policy's row (policy/policy.h) or from
// the model's file in configs/models (tau1, tau2 by cache size).
struct PolicyConfig {
    std::string name = "cake";
    std::optional<int> cache_size;  // tokens per layer and KV head on average, window included
    std::optional<int> window;      // tokens
    std::optional<double> tau1, tau2, gamma;
    std::optional<int> pool;
    std::optional<int> sinks;
    std::optional<bool> cascade;
    std::optional<std::string> observe, score, heads, share, rounding, decode, stats;
    std::optional<std::int64_t> seed;  // of share: random
};

struct RunConfig {
    struct Model {
        std::string path;
        std::string dtype = "auto";  // auto | f32 | bf16 | f16: of weights in memory
        int layers = 0;              // 0: all; else the first so many
    } model;
    std::string backend = "auto";  // auto | cpu | cuda
    struct Parallel {
        std::string tensor = "all";  // ranks per replica
        std::string data = "auto";   // replicas
    } parallel;
    struct Comm {
        double timeout_s = 300;  // ranks that wait for others that get nothing done
    } comm;
    PolicyConfig policy;
    struct Generation {
        int max_new_tokens = 128;
        double temperature = 0;
        double top_p = 1;
        int top_k = 0;  // 0: all
        double min_p = 0;
        double repetition_penalty = 1;
        int logprobs = 0;
        std::int64_t seed = 0;
        std::vector<std::string> stop;
        bool ignore_eos = false;
    } generation;
    struct Engine {
        std::string prefill_chunk = "auto";  // tokens
        int max_batch = 8;
        int interleave =
            100;  // ms that running requests stand still, at most, between layers of a prompt
        std::string page_tokens = "auto";
        std::string kv_bytes = "auto";
        std::string cache_dtype = "auto";     // auto | f32 | bf16
        std::string residual_dtype = "auto";  // auto | f32 | bf16
        std::string threads = "auto";         // per rank
        bool share_gpu = false;               // several ranks may compute on one GPU
    } engine;
    struct Bench {  // of `bench`: every combination is measured
        std::vector<std::string> policies{"cake"};
        std::vector<int> cache_sizes{1024};  // tokens
        std::vector<int> prompts{2048};      // tokens
        std::vector<int> batches{1};         // sequences that decode together
        std::vector<int> new_tokens{32};
        int repeat = 5;
        int warmup = 1;                           // repetitions that are not counted, first
        std::int64_t seed = 0;                    // of random prompts
        std::string text;                         // a file that prompts are taken from instead
        std::string requests;                     // a trace instead of the combinations
        double time_scale = 1, length_scale = 1;  // of its times and lengths
        int max_requests = 0;                     // its first so many; 0: all
    } bench;
    struct Eval {                           // of `eval`: every policy with every cache size
        std::vector<std::string> policies;  // none: policy.name
        std::vector<int> cache_sizes;       // tokens; none: policy.cache_size
        std::string part = "0/1";        // "I/N": every N-th of them, from I on; others elsewhere
        std::string data;                // LongBench's or RULER's rows
        std::vector<std::string> tasks;  // none: all that are there
        int limit = 0;                   // rows of each task; 0: all
        int longest_prompt = 0;          // tokens; 0: the model's
        bool whole_only = false;
        bool single_bos = false;
        std::vector<std::string> texts;               // files: haystacks, or what is predicted
        std::string form = "text";                    // text | kv: what needles lie in
        std::vector<int> lengths;                     // tokens
        std::vector<int> depths{0, 25, 50, 75, 100};  // percent
        std::vector<int> needles{1};
        int trials = 1;
        int positions = 256;    // tokens that are predicted
        std::int64_t seed = 0;  // of needles
    } eval;
    std::string chat = "auto";  // auto | none | a template's name
    bool check = false;         // digests of budgets compared across ranks
};

// Reads a YAML file over `config`. Usage errors name file and line; an unknown key also the nearest known one.
void apply_config_file(RunConfig& config, const std::string& path);
// The same for text in memory; `name` is what messages call it.
void apply_config_text(RunConfig& config, const std::string& text, const std::string& name);
// `key.path=value`, as --set takes it; the value is YAML.
void apply_setting(RunConfig& config, const std::string& assignment);
// `value` as it stands, without YAML's rules for quotes and brackets: what flags take. `where` names it in messages.
void apply_value(RunConfig& config, const std::string& key, const std::string& value,
                 const std::string& where);

// The number in a value that may also be a word: nothing for "auto" and "all". Bytes may carry a unit: "12GiB".
std::optional<std::int64_t> number_in(const std::string& value);

// Every key with its value; null where unset.
nlohmann::json to_json(const RunConfig& config);

// A key, and one line on it: meaning, what is allowed, default. For help and for docs.
struct ConfigKey {
    std::string path, help;
};
std::vector<ConfigKey> config_keys();

// The text of configs/models/*.yaml is compiled in. Defaults that a known model has for this cache size: fills
// tau1 and tau2 where they are unset (nearest cache size in log2; unknown models: 1, 1). Says what it chose.
struct ModelDefaults {
    std::string file;  // "configs/models/smollm2.yaml", or empty
    double tau1 = 1, tau2 = 1;
    int longest_prompt = 0;  // tokens, 0: the model's context
};
ModelDefaults model_defaults(const ModelConfig& model, int cache_size);

}  // namespace cake
