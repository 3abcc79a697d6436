#include "config/config_fields.h"

#include "config/field_kinds.h"

namespace cake {
namespace {

using namespace fields;

ConfigField stop_strings() {
    ConfigField field;
    field.path = "generation.stop";
    field.allowed = "a text or a list of texts, none of them empty";
    field.help = "texts that end a generation; they are not part of its output";
    field.read = [](RunConfig& config, const Node& node) {
        std::vector<std::string> texts;
        if (node.IsScalar())
            texts.push_back(node.Scalar());
        if (!node.IsScalar() && !node.IsSequence())
            return false;
        for (const Node& item : node) {
            if (!item.IsScalar())
                return false;
            texts.push_back(item.Scalar());
        }
        for (const std::string& text : texts)
            if (text.empty() || !is_utf8(text))
                return false;
        config.generation.stop = std::move(texts);
        return true;
    };
    field.write = [](const RunConfig& config) { return json(config.generation.stop); };
    return field;
}

#define MEMBER(name) \
    [](auto& config) -> auto& { return config.name; }

std::vector<ConfigField> make_fields() {
    const std::int64_t most_threads = 4096, most_ranks = 65536;
    return {
        text("model.path", MEMBER(model.path), "a Hugging Face folder, or a .gguf file"),
        choice("model.dtype", MEMBER(model.dtype), {"auto", "f32", "bf16", "f16"},
               "type of weights in memory"),
        integer("model.layers", MEMBER(model.layers), 0, 1024,
                "only the first so many layers; 0: all"),
        choice("backend", MEMBER(backend), {"auto", "cpu", "cuda"}, "where to compute"),
        word_or_number("parallel.tensor", MEMBER(parallel.tensor), "all", 1, most_ranks,
                       "a number of ranks", "ranks that share one replica of the model"),
        word_or_number("parallel.data", MEMBER(parallel.data), "auto", 1, most_ranks,
                       "a number of replicas", "replicas, which share the queue of a batch job"),

        number("comm.timeout_s", MEMBER(comm.timeout_s), 1, 1e6,
               "seconds after which ranks that wait for others that get nothing done end the run; "
               "four "
               "times as long until the model is loaded"),

        text("policy.name", MEMBER(policy.name), "what is kept in the KV cache: cake, full, ..."),
        integer("policy.cache_size", MEMBER(policy.cache_size), 1, most_tokens,
                "tokens kept per layer and KV head on average, window included"),
        integer("policy.window", MEMBER(policy.window), 1, most_tokens,
                "the last tokens of the prompt, which observe and always stay"),
        number("policy.tau1", MEMBER(policy.tau1), 0.05, 50,
               "temperature of the entropy in a layer's preference"),
        number("policy.tau2", MEMBER(policy.tau2), 0.05, 50,
               "temperature of the variance in a layer's preference"),
        number("policy.gamma", MEMBER(policy.gamma), 0, 1e9,
               "weight of the variance in a token's score"),
        integer("policy.pool", MEMBER(policy.pool), 1, 9999,
                "width of the average pool over scores, odd"),
        integer("policy.sinks", MEMBER(policy.sinks), 0, most_tokens,
                "first tokens that always stay"),
        flag("policy.cascade", MEMBER(policy.cascade),
             "cut after every layer, else once after the last"),
        text("policy.observe", MEMBER(policy.observe),
             "which queries observe, a cell of the policy's row"),
        text("policy.score", MEMBER(policy.score),
             "how a token is scored, a cell of the policy's row"),
        choice("policy.heads", MEMBER(policy.heads), {"group", "all"},
               "whose attention scores a token: a KV head's query heads, or all of the model"),
        text("policy.share", MEMBER(policy.share),
             "how layers share the budget, a cell of the policy's row"),
        choice("policy.rounding", MEMBER(policy.rounding), {"exact", "official"},
               "how budgets become whole tokens"),
        choice("policy.decode", MEMBER(policy.decode), {"position", "official", "none"},
               "which token leaves at each new one"),
        choice("policy.stats", MEMBER(policy.stats), {"f32", "model"},
               "type of probabilities before the statistics"),
        integer("policy.seed", MEMBER(policy.seed), 0, any_integer, "of random shares"),

        integer("generation.max_new_tokens", MEMBER(generation.max_new_tokens), 1, most_tokens,
                "tokens to generate at most"),
        number("generation.temperature", MEMBER(generation.temperature), 0, 100,
               "of sampling; 0: greedy"),
        number("generation.top_p", MEMBER(generation.top_p), 0.000001, 1,
               "sample from the likeliest tokens that hold this much probability"),
        integer("generation.top_k", MEMBER(generation.top_k), 0, most_tokens,
                "sample from so many likeliest tokens; 0: all"),
        number("generation.min_p", MEMBER(generation.min_p), 0, 1,
               "sample from tokens at least this likely, as a part of the likeliest"),
        number("generation.repetition_penalty", MEMBER(generation.repetition_penalty), 0.01, 100,
               "logits of tokens seen before: above 0 divided by this, else times this"),
        integer("generation.logprobs", MEMBER(generation.logprobs), 0, 1000,
                "report log-probabilities of each token and of so many best; 0: none"),
        integer("generation.seed", MEMBER(generation.seed), 0, any_integer, "of sampling"),
        stop_strings(),
        flag("generation.ignore_eos", MEMBER(generation.ignore_eos),
             "go on after the model's end of sequence"),

        word_or_number("engine.prefill_chunk", MEMBER(engine.prefill_chunk), "auto", 1, most_tokens,
                       "a number of tokens", "tokens that pass through a layer at once"),
        integer("engine.max_batch", MEMBER(engine.max_batch), 1, 4096,
                "requests that decode together at most"),
        integer("engine.interleave", MEMBER(engine.interleave), 0, 86400000,
                "milliseconds after which running requests take a decode step between two layers "
                "of a new prompt"),
        word_or_number("engine.page_tokens", MEMBER(engine.page_tokens), "auto", 1, 65536,
                       "a number of tokens", "tokens of a page of the KV cache"),
        word_or_number("engine.kv_bytes", MEMBER(engine.kv_bytes), "auto", 1, any_integer,
                       "a number of bytes, with KiB, MiB, GiB or TiB behind it if you like",
                       "room for the KV cache on each rank"),
        choice("engine.cache_dtype", MEMBER(engine.cache_dtype), {"auto", "f32", "bf16"},
               "type of the KV cache"),
        choice("engine.residual_dtype", MEMBER(engine.residual_dtype), {"auto", "f32", "bf16"},
               "type of the residual stream and of the sums across ranks"),
        word_or_number("engine.threads", MEMBER(engine.threads), "auto", 1, most_threads,
                       "a number of threads", "CPU threads of each rank"),
        flag("engine.share_gpu", MEMBER(engine.share_gpu),
             "several ranks may compute on one GPU; what they exchange then passes through the "
             "host"),

        texts("bench.policies", MEMBER(bench.policies), "policies that are measured"),
        integers("bench.cache_sizes", MEMBER(bench.cache_sizes), 1, most_tokens,
                 "cache sizes of each policy, tokens"),
        integers("bench.prompts", MEMBER(bench.prompts), 1, most_tokens,
                 "lengths of prompts, tokens"),
        integers("bench.batches", MEMBER(bench.batches), 1, 4096, "sequences that decode together"),
        integers("bench.new_tokens", MEMBER(bench.new_tokens), 1, most_tokens,
                 "decode steps that are measured"),
        integer("bench.repeat", MEMBER(bench.repeat), 1, 10000, "repetitions that are counted"),
        integer("bench.warmup", MEMBER(bench.warmup), 0, 100,
                "repetitions before them that are not"),
        integer("bench.seed", MEMBER(bench.seed), 0, any_integer, "of random prompts"),
        text("bench.text", MEMBER(bench.text), "a text file that prompts are taken from"),
        text("bench.requests", MEMBER(bench.requests),
             "a trace of requests, JSONL of timestamp (ms), input_length, output_length"),
        number("bench.time_scale", MEMBER(bench.time_scale), 0, 1e6,
               "its times are multiplied by this"),
        number("bench.length_scale", MEMBER(bench.length_scale), 1e-6, 1e6,
               "its lengths are multiplied by this"),
        integer("bench.max_requests", MEMBER(bench.max_requests), 0, most_tokens,
                "its first so many; 0: all"),

        texts("eval.policies", MEMBER(eval.policies),
              "policies that are evaluated; none: policy.name", Items::AnyNumber),
        integers("eval.cache_sizes", MEMBER(eval.cache_sizes), 1, most_tokens,
                 "cache sizes of each policy, tokens; none: policy.cache_size", Items::AnyNumber),
        text("eval.part", MEMBER(eval.part), "I/N: of these every N-th, from I on (0 to N - 1)"),
        text("eval.data", MEMBER(eval.data), "a folder of rows, or a file of them"),
        texts("eval.tasks", MEMBER(eval.tasks), "LongBench's tasks; none: all that eval.data has",
              Items::AnyNumber),
        integer("eval.limit", MEMBER(eval.limit), 0, most_tokens, "rows of each task; 0: all"),
        integer("eval.longest_prompt", MEMBER(eval.longest_prompt), 0, most_tokens,
                "tokens of LongBench's prompts, longer ones lose their middle; 0: the model's"),
        flag("eval.whole_only", MEMBER(eval.whole_only), "only rows whose prompt keeps its middle"),
        flag("eval.single_bos", MEMBER(eval.single_bos),
             "one BOS before prompts that the official script gives two"),
        choice("eval.form", MEMBER(eval.form), {"text", "kv"}, "what needles lie in"),
        texts("eval.texts", MEMBER(eval.texts), "text files", Items::AnyNumber),
        integers("eval.lengths", MEMBER(eval.lengths), 1, most_tokens, "lengths of prompts, tokens",
                 Items::AnyNumber),
        integers("eval.depths", MEMBER(eval.depths), 0, 100, "where a needle lies, percent"),
        integers("eval.needles", MEMBER(eval.needles), 1, 100, "needles in a haystack"),
        integer("eval.trials", MEMBER(eval.trials), 1, 10000, "haystacks of each kind"),
        integer("eval.positions", MEMBER(eval.positions), 1, most_tokens,
                "tokens after the prompt that are predicted"),
        integer("eval.seed", MEMBER(eval.seed), 0, any_integer, "of needles"),

        text("chat", MEMBER(chat), "auto, none, or the name of a chat template"),
        flag("check", MEMBER(check), "compare digests of budgets across ranks"),
    };
}

#undef MEMBER

}  // namespace

const std::vector<ConfigField>& config_fields() {
    static const std::vector<ConfigField> fields = make_fields();
    return fields;
}

std::optional<std::int64_t> number_in(const std::string& value) {
    const std::size_t digits = std::min(value.find_first_not_of("0123456789"), value.size());
    const auto count = parse<std::int64_t>(value.substr(0, digits));
    std::string unit = value.substr(digits);
    unit.erase(0, unit.find_first_not_of(' '));
    int shift = 0;
    if (unit == "KiB")
        shift = 10;
    else if (unit == "MiB")
        shift = 20;
    else if (unit == "GiB")
        shift = 30;
    else if (unit == "TiB")
        shift = 40;
    else if (!unit.empty())
        return std::nullopt;
    if (!count || *count > any_integer >> shift)
        return std::nullopt;
    return *count << shift;
}

}  // namespace cake
