#include "eval/needle.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "eval/python_text.h"
#include "text/chat.h"

namespace cake {
namespace {

enum : std::uint32_t { DrawFacts, DrawPlace, DrawHaystack };

constexpr std::array<std::string_view, 40> adjectives{
    "abrupt", "amber",   "ancient", "bitter",  "bright", "calm",   "clever",  "coral",
    "crisp",  "curious", "dapper",  "distant", "eager",  "early",  "faint",   "famous",
    "gentle", "golden",  "hollow",  "honest",  "humble", "idle",   "jolly",   "keen",
    "lively", "lucky",   "mellow",  "narrow",  "noble",  "polite", "quiet",   "rapid",
    "rustic", "silent",  "sleepy",  "steady",  "tender", "vivid",  "wistful", "young"};
constexpr std::array<std::string_view, 40> nouns{
    "anchor",  "badger", "barrel", "beacon",  "bridge", "candle", "canyon",  "castle",
    "cobalt",  "comet",  "copper", "dolphin", "engine", "falcon", "feather", "garden",
    "glacier", "hammer", "harbor", "island",  "jacket", "kettle", "ladder",  "lantern",
    "magnet",  "meadow", "mirror", "needle",  "orchid", "paddle", "pepper",  "pillow",
    "rocket",  "saddle", "shovel", "temple",  "tunnel", "valley", "violin",  "walnut"};

// The random numbers of a trial; `use` tells apart what is drawn.
std::mt19937_64 trial_random(std::uint64_t seed, int trial, std::uint32_t use) {
    std::seed_seq all{std::uint32_t(seed), std::uint32_t(seed >> 32), std::uint32_t(trial), use};
    return std::mt19937_64(all);
}

bool is_key_value(const NeedleCase& which) { return which.form == "kv"; }
std::string_view kind_of(const NeedleCase& which) {
    return is_key_value(which) ? "uuid" : "number";
}

std::string random_words(std::mt19937_64& random) {
    const std::string_view adjective = adjectives[random() % adjectives.size()];
    return fmt::format("{}-{}", adjective, nouns[random() % nouns.size()]);
}

Fact random_fact(const NeedleCase& which, std::mt19937_64& random) {
    if (is_key_value(which)) {
        const std::string key = random_uuid(random);
        return {key, random_uuid(random)};
    }
    const std::string key = random_words(random);
    return {key, std::to_string(1'000'000 + random() % 9'000'000)};
}

// What stands around the haystack.
struct Frame {
    std::string before, after, answer;  // the beginning of the answer
};

// RULER's template, which has a form for one fact and one for several.
Frame frame_of(const NeedleCase& which, std::span<const Fact> facts) {
    const std::string_view kind = kind_of(which);
    if (facts.size() == 1)
        return {fmt::format("A special magic {0} is hidden within the following text. Make sure to "
                            "memorize it. I will quiz you about the {0} afterwards.\n",
                            kind),
                fmt::format("\nWhat is the special magic {} for {} mentioned in the provided text?",
                            kind, facts[0].key),
                fmt::format(" The special magic {} for {} mentioned in the provided text is", kind,
                            facts[0].key)};
    std::vector<std::string> keys;
    for (const Fact& fact : facts)
        keys.push_back(fact.key);
    const std::string last = std::exchange(keys.back(), {});
    keys.pop_back();
    const std::string query = fmt::format("{}, and {}", fmt::join(keys, ", "), last);
    return {fmt::format("Some special magic {0}s are hidden within the following text. Make sure "
                        "to memorize it. I will quiz you about the {0}s afterwards.\n",
                        kind),
            fmt::format("\nWhat are all the special magic {}s for {} mentioned in the provided "
                        "text?",
                        kind, query),
            fmt::format(" The special magic {}s for {} mentioned in the provided text are", kind,
                        query)};
}

// A user's message and the beginning of the answer to it.
std::vector<TokenId> encode(const NeedleStudy& study, const std::string& message,
                            const std::string& answer) {
    if (study.chat == "none")
        return study.tokenizer.encode(message + answer, true);
    const std::array<ChatMessage, 1> messages{{{"user", message}}};
    return study.tokenizer.encode(
        apply_chat_template(study.chat, messages, true, study.tokenizer) + answer, false);
}

// One prompt, with as many sentences as it is asked for.
class Builder {
public:
    Builder(const NeedleCase& which, const Haystack& haystack, const NeedleStudy& study)
        : which_(which), haystack_(haystack), study_(study), facts_(make_facts(which, study.seed)) {
        frame_ = frame_of(which, facts_);
        if (!is_key_value(which) && most() > 0)
            first_ = trial_random(study.seed, which.trial, DrawPlace)() % most();
    }
    std::size_t most() const { return haystack_.sentences.size(); }
    const std::vector<Fact>& facts() const { return facts_; }
    int tokens_of(std::size_t i) const { return haystack_.tokens[(first_ + i) % most()]; }

    std::vector<TokenId> tokens(std::size_t n) const {
        return encode(study_, frame_.before + context(n) + frame_.after, frame_.answer);
    }

private:
    // n sentences with the facts between them.
    std::string context(std::size_t n) const {
        std::vector<int> counts(n);
        for (std::size_t i = 0; i < n; ++i)
            counts[i] = tokens_of(i);
        const auto places = needle_places(counts, *which_.depth, which_.needles);
        std::string out;
        const auto add = [&](std::string_view sentence) {
            if (!out.empty())
                out += haystack_.separator;
            out += sentence;
        };
        std::size_t needle = 0;
        for (std::size_t i = 0; i <= n; ++i) {
            for (; needle < places.size() && places[needle] == i; ++needle)
                add(fact_sentence(kind_of(which_), facts_[needle].key, facts_[needle].value));
            if (i < n)
                add(haystack_.sentences[(first_ + i) % most()]);
        }
        return out;
    }

    const NeedleCase& which_;
    const Haystack& haystack_;
    const NeedleStudy& study_;
    std::vector<Fact> facts_;
    Frame frame_;
    std::size_t first_ = 0;
};

}  // namespace

std::string NeedleCase::id() const {
    if (!depth)
        return fmt::format("row/{}", trial);
    return fmt::format("{}/{}/{}/{}/{}", form, length, needles, *depth, trial);
}

std::vector<NeedleCase> needle_cases(const RunConfig::Eval& eval) {
    std::vector<NeedleCase> out;
    std::set<std::string> ids;
    for (int length : eval.lengths)
        for (int needles : eval.needles)
            for (int depth : eval.depths)
                for (int trial = 0; trial < eval.trials; ++trial) {
                    const char* in_text = needles == 1 ? "single" : "multi";
                    NeedleCase which{eval.form == "kv" ? "kv" : in_text, length, depth, needles,
                                     trial};
                    if (ids.insert(which.id()).second)
                        out.push_back(std::move(which));
                }
    return out;
}

std::vector<Fact> make_facts(const NeedleCase& which, std::uint64_t seed) {
    std::mt19937_64 random = trial_random(seed, which.trial, DrawFacts);
    std::vector<Fact> out;
    while (int(out.size()) < which.needles) {
        Fact fact = random_fact(which, random);
        if (std::ranges::count(out, fact.key, &Fact::key) == 0 &&
            std::ranges::count(out, fact.value, &Fact::value) == 0)
            out.push_back(std::move(fact));
    }
    return out;
}

std::vector<std::size_t> needle_places(std::span<const int> tokens, int depth, int needles) {
    std::vector<std::int64_t> before{0};  // tokens before each place
    for (int n : tokens)
        before.push_back(before.back() + n);
    std::vector<std::size_t> out;
    for (int i = 0; i < needles; ++i) {
        const double percent = depth + double(i) * (100 - depth) / needles;
        const double wanted = double(before.back()) * percent / 100;
        const auto above = std::ranges::lower_bound(before, wanted) - before.begin();
        const bool below_is_nearer = above > 0 && wanted - double(before[std::size_t(above) - 1]) <
                                                      double(before[std::size_t(above)]) - wanted;
        out.push_back(std::size_t(above - below_is_nearer));
    }
    return out;
}

NeedlePrompt needle_prompt(const NeedleCase& which, const Haystack& haystack,
                           const NeedleStudy& study) {
    const Builder builder(which, haystack, study);
    const auto length = std::size_t(which.length);
    std::vector<TokenId> tokens = builder.tokens(0);
    if (tokens.size() > length)
        throw usage_error(
            "a prompt of {} tokens has no room for the question and {} needle(s), which take {}: "
            "ask for a longer one",
            length, which.needles, tokens.size());
    // Counts of sentences alone are near to what they take in the prompt; the prompt itself says whether they fit.
    std::size_t n = 0;
    for (std::size_t left = length - tokens.size();
         n < builder.most() && std::size_t(builder.tokens_of(n)) <= left; ++n)
        left -= std::size_t(builder.tokens_of(n));
    tokens = builder.tokens(n);
    while (tokens.size() > length) {
        for (std::int64_t over = std::int64_t(tokens.size() - length); over > 0 && n > 0;)
            over -= builder.tokens_of(--n);
        tokens = builder.tokens(n);
    }
    for (; n < builder.most(); ++n) {
        std::vector<TokenId> longer = builder.tokens(n + 1);
        if (longer.size() > length)
            break;
        tokens = std::move(longer);
    }
    if (n == builder.most())
        throw usage_error(
            "the text is too short for a prompt of {} tokens: all of it and the question take {}; "
            "give a longer text, or smaller lengths",
            length, tokens.size());
    NeedlePrompt out{which, std::move(tokens), {}};
    for (const Fact& fact : builder.facts())
        out.answers.push_back(fact.value);
    return out;
}

std::vector<NeedlePrompt> needle_prompts(std::span<const NeedleCase> cases,
                                         std::span<const std::string> texts,
                                         const NeedleStudy& study) {
    std::vector<Haystack> of_texts;
    for (const std::string& text : texts)
        of_texts.push_back(text_haystack(text, study.tokenizer));
    int longest = 0;
    for (const NeedleCase& which : cases)
        longest = std::max(longest, which.length);
    std::map<int, Haystack> of_facts;  // by trial
    std::vector<NeedlePrompt> out;
    for (const NeedleCase& which : cases) {
        if (is_key_value(which)) {
            const auto random = trial_random(study.seed, which.trial, DrawHaystack);
            if (!of_facts.contains(which.trial))
                of_facts[which.trial] = fact_haystack(longest, random, study.tokenizer);
            out.push_back(needle_prompt(which, of_facts[which.trial], study));
        } else {
            const auto text = std::size_t(which.trial) % of_texts.size();
            out.push_back(needle_prompt(which, of_texts[text], study));
        }
    }
    return out;
}

NeedlePrompt ruler_prompt(const RulerRow& row, const NeedleStudy& study) {
    NeedlePrompt out{{.form = "kv",
                      .length = 0,
                      .depth = std::nullopt,
                      .needles = int(row.outputs.size()),
                      .trial = int(row.line)},
                     encode(study, row.input, ""),
                     row.outputs};
    out.which.length = int(out.tokens.size());
    return out;
}

double part_found(std::string_view text, std::span<const std::string> answers) {
    const std::u32string all = python_lower(code_points(text));
    const auto found = std::ranges::count_if(answers, [&](const std::string& answer) {
        return all.find(python_lower(code_points(answer))) != all.npos;
    });
    return double(found) / double(answers.size());
}

}  // namespace cake
