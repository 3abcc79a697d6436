// Needles in a haystack: facts that lie in a long text and are asked for at its end, in the words of RULER (Hsieh et al.,
// COLM 2024; NVIDIA/RULER, niah.py and constants.py).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "config/run_config.h"
#include "eval/haystack.h"
#include "eval/ruler.h"
#include "text/tokenizer.h"

namespace cake {

// One prompt of a study.
struct NeedleCase {
    std::string form;  // single or multi: needles in a text; kv: a key among keys
    int length = 0;    // tokens of the whole prompt, at most
    std::optional<int>
        depth;  // percent of the haystack before the (first) needle; nothing: of a data file
    int needles = 1;
    int trial = 0;           // other facts, and another part of the text; of a data file the line
    std::string id() const;  // no two of a study have the same
};

// All combinations of the study.
std::vector<NeedleCase> needle_cases(const RunConfig::Eval& eval);

struct Fact {
    std::string key, value;
};

// A fact for each needle, keys and values all different: "amber-valley" and 7 digits, or two uuids (kv). The facts of a
// trial are the same at any length and depth, and those of fewer needles the first ones.
std::vector<Fact> make_facts(const NeedleCase& which, std::uint64_t seed);

// Before which sentence each needle is put, ascending. Depths count tokens; `tokens`: of each sentence. Needle i of n lies
// at depth + i (100 - depth) / n percent, at the end of a sentence that is nearest.
std::vector<std::size_t> needle_places(std::span<const int> tokens, int depth, int needles);

struct NeedlePrompt {
    NeedleCase which;
    std::vector<TokenId> tokens;
    std::vector<std::string> answers;  // one for each needle
};

// What all prompts of a study share.
struct NeedleStudy {
    std::string chat =
        "none";  // chat template (text/chat.h); RULER's beginning of an answer stands behind it
    std::uint64_t seed = 0;
    const Tokenizer& tokenizer;
};

// As many sentences as fit: with one more the prompt had more than `which.length` tokens. A text's sentences begin at a
// place that trial and seed choose, and go on at its beginning. Usage errors: no room for the question and the facts, a
// haystack that is too short.
NeedlePrompt needle_prompt(const NeedleCase& which, const Haystack& haystack,
                           const NeedleStudy& study);

// The prompts of all cases. Trial i hides its needles in texts[i % texts.size()].
std::vector<NeedlePrompt> needle_prompts(std::span<const NeedleCase> cases,
                                         std::span<const std::string> texts,
                                         const NeedleStudy& study);

// A row's prompt, its input as it is through the chat template.
NeedlePrompt ruler_prompt(const RulerRow& row, const NeedleStudy& study);

// RULER's string_match_all: the part of `answers` that `text` contains, upper and lower case alike.
double part_found(std::string_view text, std::span<const std::string> answers);

}  // namespace cake
