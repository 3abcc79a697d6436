// LongBench: tasks, rows, and the prompts of the official script (THUDM/LongBench pred.py, antgroup/cakekv pred_cake.py).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "eval/longbench_files.h"
#include "eval/metrics.h"
#include "text/tokenizer.h"

namespace cake {

// configs/evaluations/longbench.yaml says what each is.
struct LongBenchTask {
    std::string name;
    std::string prompt;  // {context} and {input} stand for the row's
    int max_new_tokens = 0;
    Metric metric = Metric::TokenF1;
    bool chat = true;
    bool first_line = false;
    bool stop_at_newline = false;
};

// The 16 English tasks, in the order in which results are shown.
const std::vector<LongBenchTask>& longbench_tasks();

// Usage error where there is none of this name: names the nearest.
const LongBenchTask& longbench_task(const std::string& name);

// Whether it is one of LongBench's five Chinese tasks, which this program does not have.
bool is_chinese_longbench_task(std::string_view name);

// How prompts are made for one model.
struct LongBenchPrompting {
    std::string chat = "none";  // its chat template (text/chat.h)
    int longest = 0;            // tokens that a prompt may have before the template; 0: any number
    bool single_bos = false;    // see longbench_prompt
};

// The task's text with the row's context and input.
std::string longbench_text(const LongBenchTask& task, const LongBenchRow& row);

// A text of more than `longest` tokens (BOS counts) without its middle: the first and the last longest / 2 tokens, each
// decoded without special tokens, joined. Tokens of the result may be a few more or less. The decoder's clean-up of spaces
// before punctuation, which transformers does for Llama 3, is left out.
std::string without_middle(const std::string& text, int longest, const Tokenizer& tokenizer);

// A prompt in the script's own forms: llama2, llama3 and mistral differ from text/chat.h in spaces and BOS alone. Others
// are the model's template.
std::string longbench_chat(const std::string& chat, const std::string& text,
                           const Tokenizer& tokenizer);

// The prompt's ids: text, middle, chat (where the task wants it), tokens. The script puts BOS in front of a text that
// already begins with it, as llama3's and mistral's do; so it is there twice, unless `single_bos`.
std::vector<TokenId> longbench_prompt(const LongBenchTask& task, const LongBenchRow& row,
                                      const LongBenchPrompting& prompting,
                                      const Tokenizer& tokenizer);

}  // namespace cake
