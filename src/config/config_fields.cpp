#include "config/config_fields.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <sstream>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "config/yaml_text.h"

namespace cake {
namespace {

using nlohmann::json;
using YAML::Node;

constexpr std::int64_t any_integer = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t most_tokens = 1 << 27;

template <typename T>
std::optional<T> parse(const std::string& text) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
        return std::nullopt;
    return value;
}

template <typename T>
inline constexpr bool is_optional = false;
template <typename T>
inline constexpr bool is_optional<std::optional<T>> = true;

template <typename T>
json dump(const T& value) {
    if constexpr (is_optional<T>)
        return value ? dump(*value) : json();
    else
        return value;
}

// `get` returns the member of a RunConfig, const or not. `convert` makes its value of a scalar's
// text, or nothing where that is not allowed. A null unsets a member that can be unset, so that a
// dump can be read again.
template <typename Get, typename Convert>
ConfigField scalar(std::string path, Get get, std::string allowed, std::string help,
                   Convert convert) {
    auto read = [get, convert](RunConfig& config, const Node& node) {
        auto& member = get(config);
        if constexpr (is_optional<std::decay_t<decltype(member)>>) {
            if (node.IsNull()) {
                member.reset();
                return true;
            }
        }
        if (!node.IsScalar())
            return false;
        auto value = convert(node.Scalar());
        if (!value)
            return false;
        member = std::move(*value);
        return true;
    };
    auto write = [get](const RunConfig& config) { return dump(get(config)); };
    return {std::move(path), std::move(allowed), std::move(help), read, write};
}

template <typename Get>
ConfigField integer(std::string path, Get get, std::int64_t least, std::int64_t most,
                    std::string help) {
    const std::string allowed = most == any_integer
                                    ? fmt::format("a whole number from {}", least)
                                    : fmt::format("a whole number from {} to {}", least, most);
    return scalar(path, get, allowed, help, [least, most](const std::string& text) {
        const auto value = parse<std::int64_t>(text);
        return value && *value >= least && *value <= most ? value : std::nullopt;
    });
}

template <typename Get>
ConfigField number(std::string path, Get get, double least, double most, std::string help) {
    return scalar(path, get, fmt::format("a number from {} to {}", least, most), help,
                  [least, most](const std::string& text) {
                      const auto value = parse<double>(text);
                      return value && *value >= least && *value <= most ? value : std::nullopt;
                  });
}

template <typename Get>
ConfigField flag(std::string path, Get get, std::string help) {
    return scalar(path, get, "true or false", help,
                  [](const std::string& text) -> std::optional<bool> {
                      if (text == "true")
                          return true;
                      if (text == "false")
                          return false;
                      return std::nullopt;
                  });
}

template <typename Get>
ConfigField choice(std::string path, Get get, std::vector<std::string> words, std::string help) {
    std::string allowed;
    for (const std::string& word : words)
        allowed += (allowed.empty() ? "one of " : ", ") + word;
    return scalar(path, get, allowed, help,
                  [words](const std::string& text) -> std::optional<std::string> {
                      for (const std::string& word : words)
                          if (word == text)
                              return word;
                      return std::nullopt;
                  });
}

template <typename Get>
ConfigField text(std::string path, Get get, std::string help) {
    return scalar(path, get, "a text in UTF-8", help,
                  [](const std::string& text) -> std::optional<std::string> {
                      return is_utf8(text) ? std::optional(text) : std::nullopt;
                  });
}

// A word, or a number that the program would otherwise choose itself. Kept as text, dumped as what
// it is.
template <typename Get>
ConfigField word_or_number(std::string path, Get get, std::string word, std::int64_t least,
                           std::int64_t most, std::string what, std::string help) {
    const auto convert = [word, least,
                          most](const std::string& text) -> std::optional<std::string> {
        const auto value = number_in(text);
        return text == word || (value && *value >= least && *value <= most) ? std::optional(text)
                                                                            : std::nullopt;
    };
    ConfigField field = scalar(path, get, fmt::format("{}, or {}", word, what), help, convert);
    field.write = [get](const RunConfig& config) {
        const auto value = parse<std::int64_t>(get(config));
        return value ? json(*value) : json(get(config));
    };
    return field;
}

enum class Items { AtLeastOne, AnyNumber };

// Scalars, as a YAML list or in one text between commas. `convert` as above.
template <typename Get, typename Convert>
ConfigField list(std::string path, Get get, Items items, std::string allowed, std::string help,
                 Convert convert) {
    auto read = [get, items, convert](RunConfig& config, const Node& node) {
        std::vector<std::string> texts;
        if (node.IsScalar()) {
            std::istringstream in(node.Scalar());
            for (std::string item; std::getline(in, item, ',');)
                texts.push_back(item);
        }
        for (const Node& item : node) {
            if (!item.IsScalar())
                return false;
            texts.push_back(item.Scalar());
        }
        std::decay_t<decltype(get(config))> values;
        for (const std::string& text : texts) {
            const auto value = convert(text);
            if (!value)
                return false;
            values.push_back(*value);
        }
        if (values.empty() && items == Items::AtLeastOne)
            return false;
        get(config) = std::move(values);
        return true;
    };
    auto write = [get](const RunConfig& config) { return json(get(config)); };
    return {std::move(path), std::move(allowed), std::move(help), read, write};
}

template <typename Get>
ConfigField integers(std::string path, Get get, int least, int most, std::string help,
                     Items items = Items::AtLeastOne) {
    return list(path, get, items, fmt::format("a list of whole numbers from {} to {}", least, most),
                help, [least, most](const std::string& text) {
                    const auto value = parse<int>(text);
                    return value && *value >= least && *value <= most ? value : std::nullopt;
                });
}

template <typename Get>
ConfigField texts(std::string path, Get get, std::string help, Items items = Items::AtLeastOne) {
    return list(path, get, items, "a list of texts", help,
                [](const std::string& text) -> std::optional<std::string> {
                    return !text.empty() && is_utf8(text) ? std::optional(text) : std::nullopt;
                });
}

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

        integer("engine.prefill_chunk", MEMBER(engine.prefill_chunk), 1, most_tokens,
                "tokens that pass through a layer at once"),
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
