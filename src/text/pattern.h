// Regular expressions of pre-tokenizers: PCRE2 with Unicode classes.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace cake {

struct TextRange {
    std::size_t begin = 0;
    std::size_t end = 0;
    bool empty() const { return begin == end; }
    bool operator==(const TextRange&) const = default;
};

class Pattern {
public:
    enum class Kind { Regex, Literal };

    // Throws a usage error with PCRE2's reason where the pattern is not understood.
    explicit Pattern(const std::string& pattern, Kind kind = Kind::Regex);
    Pattern(Pattern&&) noexcept;
    Pattern& operator=(Pattern&&) noexcept;
    ~Pattern();

    // Searches one text after another. Each thread has its own.
    class Search {
    public:
        explicit Search(const Pattern& pattern);
        Search(Search&&) noexcept;
        ~Search();

        // The first match at or after `from`, never an empty one; an empty range where there is none.
        // `text` is valid UTF-8, `from` the start of a character. Throws Error where the pattern needs more
        // work or memory than any sensible one.
        TextRange next(std::string_view text, std::size_t from);

    private:
        struct State;
        std::unique_ptr<State> state_;
    };

private:
    struct Compiled;
    std::shared_ptr<const Compiled> compiled_;
};

}  // namespace cake
