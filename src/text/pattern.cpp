#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pattern.h"

#include <algorithm>
#include <array>

#include <pcre2.h>

#include "base/error.h"
#include "io/file_error.h"

namespace cake {

namespace {

// "\s" is Unicode's White_Space for the engines that tokenizers use (Oniguruma, Rust's regex). PCRE2's own also
// takes U+180E, so it is spelled out.
std::string with_unicode_spaces(const std::string& pattern) {
    std::string out;
    for (std::size_t i = 0; i < pattern.size(); ++i) {
        out += pattern[i];
        if (pattern[i] != '\\' || i + 1 == pattern.size())
            continue;
        const char letter = pattern[++i];
        if (letter == 's')
            out += "p{White_Space}";
        else if (letter == 'S')
            out += "P{White_Space}";
        else
            out += letter;
    }
    return out;
}

std::string reason(int code) {
    std::array<PCRE2_UCHAR, 256> text{};
    pcre2_get_error_message(code, text.data(), text.size());
    return reinterpret_cast<const char*>(text.data());
}

template <auto Function>
struct Calls {
    template <typename T>
    void operator()(T* object) const {
        Function(object);
    }
};

using Code = std::unique_ptr<pcre2_code, Calls<pcre2_code_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Calls<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Calls<pcre2_match_data_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Calls<pcre2_jit_stack_free>>;

constexpr std::size_t most_pattern_bytes = 1 << 16;
constexpr std::size_t jit_stack_bytes = 32 << 10, most_jit_stack_bytes = 4 << 20;
constexpr std::uint32_t most_heap_kib = 256 << 10;
// Steps per match: PCRE2's own default, and more for long texts, where one honest match may be all of it.
constexpr std::size_t base_steps = 10'000'000, steps_per_byte = 16, most_steps = 1u << 31;

}  // namespace

struct Pattern::Compiled {
    std::string text;  // for messages
    Code code;
};

Pattern::Pattern(const std::string& pattern, Kind kind) {
    if (pattern.empty())
        throw usage_error("a pre-tokenizer's pattern is empty");
    if (pattern.size() > most_pattern_bytes)
        throw usage_error("a pre-tokenizer's pattern is {} bytes long", pattern.size());

    // \C could match a part of a character. Callers rely on whole ones.
    std::uint32_t options = PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C;
    std::string source = pattern;
    if (kind == Kind::Literal) {
        options |= PCRE2_LITERAL;
        options &= ~std::uint32_t(PCRE2_NEVER_BACKSLASH_C);  // the two do not go together
    } else {
        options |= PCRE2_UCP;
        source = with_unicode_spaces(pattern);
    }

    int error = 0;
    std::size_t at = 0;
    Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(), options,
                            &error, &at, nullptr));
    if (!code)
        throw usage_error("the pre-tokenizer's pattern {} is not understood: {}", quote(pattern),
                          reason(error));
    // Without JIT (a processor that PCRE2 has none for) the same matches are found, more slowly.
    pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
    compiled_ = std::make_shared<const Compiled>(Compiled{pattern, std::move(code)});
}

Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;
Pattern::~Pattern() = default;

struct Pattern::Search::State {
    std::shared_ptr<const Compiled> pattern;
    MatchContext context{pcre2_match_context_create(nullptr)};
    JitStack stack{pcre2_jit_stack_create(jit_stack_bytes, most_jit_stack_bytes, nullptr)};
    MatchData match;
};

Pattern::Search::Search(const Pattern& pattern) : state_(std::make_unique<State>()) {
    state_->pattern = pattern.compiled_;
    state_->match.reset(
        pcre2_match_data_create_from_pattern(pattern.compiled_->code.get(), nullptr));
    CAKE_CHECK(state_->context && state_->match, "no memory for a search");
    pcre2_set_heap_limit(state_->context.get(), most_heap_kib);
    if (state_->stack)
        pcre2_jit_stack_assign(state_->context.get(), nullptr, state_->stack.get());
}

Pattern::Search::Search(Search&&) noexcept = default;
Pattern::Search::~Search() = default;

TextRange Pattern::Search::next(std::string_view text, std::size_t from) {
    const std::size_t steps = std::min(most_steps, base_steps + steps_per_byte * text.size());
    pcre2_set_match_limit(state_->context.get(), std::uint32_t(steps));

    const auto search = [&](std::uint32_t options) {
        return pcre2_match(state_->pattern->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                           text.size(), from, options | PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY,
                           state_->match.get(), state_->context.get());
    };
    int found = search(0);
    // The interpreter backtracks on the heap, further than JIT's stack reaches.
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
        found = search(PCRE2_NO_JIT);
    if (found == PCRE2_ERROR_NOMATCH)
        return {text.size(), text.size()};
    if (found < 0)
        throw Error(fmt::format("the pre-tokenizer's pattern {} fails on a text of {} bytes: {}",
                                quote(state_->pattern->text), text.size(), reason(found)));

    const std::size_t* ends = pcre2_get_ovector_pointer(state_->match.get());
    // \K may move a match's beginning to where it does not belong.
    if (ends[0] < from || ends[1] <= ends[0] || ends[1] > text.size())
        throw Error(fmt::format("the pre-tokenizer's pattern {} has matches that overlap",
                                quote(state_->pattern->text)));
    return {ends[0], ends[1]};
}

}  // namespace cake
