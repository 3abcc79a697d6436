// Python's string functions as the official scorer of LongBench calls them, over code points.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cake {

// Of UTF-8; what is none becomes U+FFFD.
std::u32string code_points(std::string_view utf8);

bool is_python_space(char32_t c);  // str.isspace()
bool is_python_digit(char32_t c);  // \d of re: the decimal digits of any script
bool is_python_word(char32_t c);   // \w of re: letters and numbers of any script, and '_'

// str.lower()
std::u32string python_lower(std::u32string_view text);

// str.split(): at runs of white space, no empty parts. The parts lie in `text`.
std::vector<std::u32string_view> split_at_spaces(std::u32string_view text);
// str.split(separator): n separators give n + 1 parts.
std::vector<std::u32string_view> split_at(std::u32string_view text, char32_t separator);

// re.findall(r"\d+", text)
std::vector<std::u32string_view> runs_of_digits(std::u32string_view text);

}  // namespace cake
