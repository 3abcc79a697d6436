// `cake inspect PATH`: what is in a model file or folder. Reads headers, never weights.
#include "cli/cli.h"
#include "cli/model_facts.h"

namespace cake {
namespace {

using nlohmann::json;

// 134515008 -> "134.5 M"
std::string in_millions(std::int64_t count) {
    return count < 10'000'000'000 ? fmt::format("{:.1f} M", double(count) / 1e6)
                                  : fmt::format("{:.2f} G", double(count) / 1e9);
}

std::string mib(std::int64_t bytes) { return fmt::format("{:.1f} MiB", double(bytes) / (1 << 20)); }

std::string text_of(const json& value) { return value.get<std::string>(); }

std::string rope_line(const json& rope) {
    std::string line =
        fmt::format("theta {}, scaling {}", rope["theta"].get<double>(), text_of(rope["scaling"]));
    for (const char* key : {"factor", "original_context", "attention_factor"})
        if (rope.contains(key))
            line += fmt::format(", {} {}", key, rope[key].get<double>());
    return line;
}

std::string tensors_line(const json& tensors) {
    if (tensors.is_null())
        return "no weights here";
    std::string line = fmt::format("{} tensors, {}:", tensors["count"].get<std::int64_t>(),
                                   mib(tensors["bytes"].get<std::int64_t>()));
    const char* separator = " ";
    for (const json& row : tensors["dtypes"]) {
        line += fmt::format("{}{} {} ({})", separator, row["tensors"].get<std::int64_t>(),
                            text_of(row["dtype"]), mib(row["bytes"].get<std::int64_t>()));
        separator = ", ";
    }
    return line;
}

std::string token_text(const json& token) {
    return fmt::format("{} {}", token["id"].get<int>(),
                       token["text"].dump(-1, ' ', false, json::error_handler_t::replace));
}

std::string tokenizer_lines(const json& tokenizer) {
    if (tokenizer.is_null())
        return "none here";
    if (tokenizer.contains("error"))
        return "cannot be read: " + text_of(tokenizer["error"]);
    std::string ends;
    for (const json& token : tokenizer["eos"])
        ends += (ends.empty() ? "" : ", ") + token_text(token);
    const json& bos = tokenizer["bos"];
    return fmt::format("{}, {} tokens\n{:15}bos {}{}; eos {}\n{:15}chat template: {}",
                       text_of(tokenizer["kind"]), tokenizer["tokens"].get<int>(), "",
                       bos.is_null() ? "none" : token_text(bos),
                       tokenizer["adds_bos"].get<bool>() ? " (put in front)" : "",
                       ends.empty() ? "none" : ends, "", text_of(tokenizer["chat_template"]));
}

std::string for_people(const json& facts) {
    std::string text;
    const auto line = [&](std::string_view what, const std::string& value) {
        text += fmt::format("{:<14} {}\n", what, value);
    };
    const auto number = [&](const char* key) { return facts[key].get<std::int64_t>(); };
    line("model", fmt::format("{} ({})", text_of(facts["name"]), text_of(facts["format"])));
    line("architecture",
         fmt::format("{}, {} layers, d_model {}, d_ff {}{}{}", text_of(facts["architecture"]),
                     number("layers"), number("d_model"), number("d_ff"),
                     facts["qkv_bias"].get<bool>() ? ", biases on q, k, v" : "",
                     facts["tied_head"].get<bool>() ? ", lm_head tied to the embedding" : ""));
    line("attention",
         fmt::format("{} query heads, {} KV heads, head_dim {}{}", number("heads"),
                     number("kv_heads"), number("head_dim"),
                     number("sliding_window") > 0
                         ? fmt::format(", sliding window of {} tokens", number("sliding_window"))
                         : ""));
    line("parameters",
         fmt::format("{} ({})", number("parameters"), in_millions(number("parameters"))));
    line("weights", tensors_line(facts["tensors"]));
    line("dtype", text_of(facts["dtype"]));
    line("context", fmt::format("{} tokens", number("context")));
    line("rope", rope_line(facts["rope"]));
    line("vocabulary", fmt::format("{} rows", number("vocab")));
    line("tokenizer", tokenizer_lines(facts["tokenizer"]));
    line("defaults", facts["defaults"].is_null() ? "no file in configs/models matches"
                                                 : text_of(facts["defaults"]));
    return text;
}

}  // namespace

ExitCode run_inspect(CommandContext& context) {
    CLI::App app("What is in a model file or folder; reads no weights", "cake inspect");
    std::string path;
    bool as_json = false;
    app.add_option("path", path, "a Hugging Face folder, its config.json, or a .gguf file")
        ->required();
    app.add_flag("--json", as_json, "print JSON");
    if (const auto over = parse_arguments(context, app))
        return *over;

    std::string text;
    context.world.status().at(RunPart::Input);
    context.world.agree([&] {
        const json facts = model_facts(path);
        text = as_json ? facts.dump(2, ' ', false, json::error_handler_t::replace) + "\n"
                       : for_people(facts);
    });
    print_once(context, text);
    return ExitCode::Done;
}

}  // namespace cake
