#include "eval/longbench.h"

#include <algorithm>
#include <array>
#include <span>

#include <yaml-cpp/yaml.h>

#include "base/error.h"
#include "base/nearest.h"
#include "config/compiled_files.h"
#include "io/file_error.h"
#include "text/chat.h"

namespace cake {
namespace {

LongBenchTask read_task(const std::string& name, const YAML::Node& keys) {
    LongBenchTask task;
    task.name = name;
    for (const auto& entry : keys) {
        const auto key = entry.first.as<std::string>();
        const YAML::Node& value = entry.second;
        if (key == "prompt") {
            task.prompt = value.as<std::string>();
        } else if (key == "max_new_tokens") {
            task.max_new_tokens = value.as<int>();
        } else if (key == "metric") {
            const auto metric = metric_named(value.as<std::string>());
            CAKE_CHECK(metric, "{}: unknown metric {}", name, value.as<std::string>());
            task.metric = *metric;
        } else if (key == "chat") {
            task.chat = value.as<bool>();
        } else if (key == "first_line") {
            task.first_line = value.as<bool>();
        } else {
            CAKE_CHECK(key == "stop_at_newline", "{}: unknown key {}", name, key);
            task.stop_at_newline = value.as<bool>();
        }
    }
    CAKE_CHECK(!task.prompt.empty() && task.max_new_tokens > 0,
               "{} has no prompt or max_new_tokens", name);
    return task;
}

std::vector<LongBenchTask> read_tasks() {
    const auto files = evaluation_files();
    const auto file =
        std::ranges::find(files, std::string_view("configs/evaluations/longbench.yaml"),
                          [](const CompiledFile& f) { return std::string_view(f.path); });
    CAKE_CHECK(file != files.end(), "configs/evaluations/longbench.yaml is not compiled in");
    std::vector<LongBenchTask> tasks;
    for (const auto& entry : YAML::Load(file->text))
        tasks.push_back(read_task(entry.first.as<std::string>(), entry.second));
    return tasks;
}

}  // namespace

const std::vector<LongBenchTask>& longbench_tasks() {
    static const std::vector<LongBenchTask> tasks = read_tasks();
    return tasks;
}

const LongBenchTask& longbench_task(const std::string& name) {
    std::vector<std::string> known;
    for (const LongBenchTask& task : longbench_tasks()) {
        if (task.name == name)
            return task;
        known.push_back(task.name);
    }
    throw usage_error("there is no LongBench task {}; the nearest one is {}", quote(name),
                      nearest(name, known));
}

bool is_chinese_longbench_task(std::string_view name) {
    constexpr std::array<std::string_view, 5> names{"multifieldqa_zh", "dureader", "vcsum", "lsht",
                                                    "passage_retrieval_zh"};
    return std::ranges::count(names, name) > 0;
}

// One pass, as Python's str.format: braces of the row's own texts mean nothing.
std::string longbench_text(const LongBenchTask& task, const LongBenchRow& row) {
    constexpr std::string_view context = "{context}", input = "{input}";
    std::string out;
    std::string_view rest = task.prompt;
    while (!rest.empty()) {
        const std::size_t at = std::min(rest.find('{'), rest.size());
        out += rest.substr(0, at);
        rest.remove_prefix(at);
        if (rest.starts_with(context)) {
            out += row.context;
            rest.remove_prefix(context.size());
        } else if (rest.starts_with(input)) {
            out += row.input;
            rest.remove_prefix(input.size());
        } else if (!rest.empty()) {
            out += rest.front();
            rest.remove_prefix(1);
        }
    }
    return out;
}

std::string without_middle(const std::string& text, int longest, const Tokenizer& tokenizer) {
    const std::vector<TokenId> ids = tokenizer.encode(text, true);
    if (ids.size() <= std::size_t(longest))
        return text;
    const std::span<const TokenId> all(ids);
    const auto half = std::size_t(longest) / 2;
    return tokenizer.decode(all.first(half)) + tokenizer.decode(all.last(half));
}

namespace {

std::string bos_text(const Tokenizer& tokenizer) {
    return tokenizer.bos() ? tokenizer.token(*tokenizer.bos()) : "";
}

}  // namespace

std::string longbench_chat(const std::string& chat, const std::string& text,
                           const Tokenizer& tokenizer) {
    if (chat == "none")
        return text;
    if (chat == "llama2")
        return "[INST]" + text + "[/INST]";
    if (chat == "mistral")
        return bos_text(tokenizer) + "[INST] " + text + " [/INST]";
    if (chat == "llama3")
        return bos_text(tokenizer) + "<|start_header_id|>user<|end_header_id|>\n\n" + text +
               "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
    const std::array<ChatMessage, 1> messages{{{"user", text}}};
    return apply_chat_template(chat, messages, true, tokenizer);
}

std::vector<TokenId> longbench_prompt(const LongBenchTask& task, const LongBenchRow& row,
                                      const LongBenchPrompting& prompting,
                                      const Tokenizer& tokenizer) {
    std::string text = longbench_text(task, row);
    if (prompting.longest > 0)
        text = without_middle(text, prompting.longest, tokenizer);
    if (task.chat)
        text = longbench_chat(prompting.chat, text, tokenizer);
    const std::string bos = bos_text(tokenizer);
    const bool begins_with_bos = !bos.empty() && text.starts_with(bos);
    return tokenizer.encode(text, !(prompting.single_bos && begins_with_bos));
}

}  // namespace cake
