#include "text/pretokenize.h"

namespace cake {

namespace {

// A part of a word, and whether the pattern matched it.
struct Part {
    TextRange range;
    bool matched;
};

// Joins what belongs together and drops what is removed, as Hugging Face's `split` does.
void gather(const std::vector<Part>& parts, SplitStep::Matches matches,
            std::vector<TextRange>& out) {
    using enum SplitStep::Matches;
    const std::size_t first = out.size();
    bool joins = false;  // whether the next part belongs to the last of `out`
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const Part& part = parts[i];
        if (matches == Removed && part.matched)
            continue;
        const bool was_matched = i > 0 && parts[i - 1].matched;
        switch (matches) {
            case Isolated:
            case Removed: joins = false; break;
            case Contiguous: joins = i > 0 && was_matched == part.matched; break;
            case MergedWithPrevious: joins = part.matched && !was_matched; break;
            case MergedWithNext: joins = !part.matched && was_matched; break;
        }
        if (joins && out.size() > first)
            out.back().end = part.range.end;
        else
            out.push_back(part.range);
    }
}

Words apply(const SplitStep& step, Words words, bool) {
    Words out;
    Pattern::Search search(step.pattern);
    std::vector<Part> parts;
    const std::string_view text = words.text;
    for (const TextRange& range : words.ranges) {
        // The pattern sees the word alone: its look-ahead ends where the word ends.
        const std::string_view word = text.substr(range.begin, range.end - range.begin);
        parts.clear();
        for (std::size_t at = 0; at < word.size();) {
            const TextRange match = search.next(word, at);
            if (match.begin > at)
                parts.push_back({{range.begin + at, range.begin + match.begin}, step.invert});
            if (!match.empty())
                parts.push_back(
                    {{range.begin + match.begin, range.begin + match.end}, !step.invert});
            at = match.end;
        }
        gather(parts, step.matches, out.ranges);
    }
    out.text = std::move(words.text);
    return out;
}

Words apply(const MetaspaceStep& step, Words words, bool at_start) {
    Words out;
    out.text.reserve(words.text.size() + words.text.size() / 2);
    for (const TextRange& range : words.ranges) {
        const std::string_view word =
            std::string_view(words.text).substr(range.begin, range.end - range.begin);
        std::size_t begin = out.text.size();
        const bool prepends =
            step.prepend == MetaspaceStep::Prepend::Always ||
            (step.prepend == MetaspaceStep::Prepend::First && at_start && range.begin == 0);
        if (prepends && !word.starts_with(' ') && !word.starts_with(step.replacement))
            out.text += step.replacement;
        for (const char c : word) {
            if (c == ' ')
                out.text += step.replacement;
            else
                out.text += c;
        }
        for (std::size_t at = begin + 1; step.split;) {
            at = out.text.find(step.replacement, at);
            if (at == std::string::npos)
                break;
            out.ranges.push_back({begin, at});
            begin = at++;
        }
        out.ranges.push_back({begin, out.text.size()});
    }
    return out;
}

Words apply(const PrefixSpaceStep&, Words words, bool) {
    Words out;
    for (const TextRange& range : words.ranges) {
        const std::string_view word =
            std::string_view(words.text).substr(range.begin, range.end - range.begin);
        const std::size_t begin = out.text.size();
        if (!word.starts_with(' '))
            out.text += ' ';
        out.text += word;
        out.ranges.push_back({begin, out.text.size()});
    }
    return out;
}

}  // namespace

Words pretokenize(const std::vector<PreTokenizerStep>& steps, std::string text, bool at_start) {
    Words words;
    words.text = std::move(text);
    if (!words.text.empty())
        words.ranges.push_back({0, words.text.size()});
    for (const PreTokenizerStep& step : steps)
        words =
            std::visit([&](const auto& s) { return apply(s, std::move(words), at_start); }, step);
    return words;
}

SplitStep digits_step(bool individual) {
    SplitStep step{Pattern("\\p{N}")};
    if (!individual)
        step.matches = SplitStep::Matches::Contiguous;
    return step;
}

SplitStep gpt2_step() {
    // openai/gpt-2, src/encoder.py
    return SplitStep{Pattern(
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+")};
}

}  // namespace cake
