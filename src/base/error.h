// Errors. Library code throws, never exits; main() turns what it catches into an exit code.
#pragma once

#include <stdexcept>
#include <string>

#include <fmt/format.h>

namespace cake {

// Exit codes of the program, as docs/interface.md lists them.
enum class ExitCode { Done = 0, Failed = 1, Usage = 2, SomeFailed = 3, Stopped = 75 };

// Anything that went wrong. `Usage` marks what the user can mend (a flag, a file, a configuration).
class Error : public std::runtime_error {
public:
    explicit Error(const std::string& message, ExitCode code = ExitCode::Failed)
        : std::runtime_error(message), code_(code) {}
    ExitCode code() const { return code_; }

private:
    ExitCode code_;
};

// A part that this program was built without.
class NotCompiled : public Error {
public:
    explicit NotCompiled(const std::string& part)
        : Error(part + " is not part of this build; `cake version` lists what is",
                ExitCode::Usage) {}
};

// An error in what the user gave: says what is wrong and what to do. Ends with exit code 2.
template <typename... Args>
[[nodiscard]] Error usage_error(fmt::format_string<Args...> format, Args&&... args) {
    return Error(fmt::format(format, std::forward<Args>(args)...), ExitCode::Usage);
}

// What is in flight, as people should read it. For catch blocks.
struct Failure {
    ExitCode code;
    std::string message;
};
Failure current_failure();

namespace detail {
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& message);
}  // namespace detail

// Checks what must hold whatever the user does. The message says what did not, in values.
#define CAKE_CHECK(condition, ...)                                       \
    do {                                                                 \
        if (!(condition)) [[unlikely]]                                   \
            ::cake::detail::check_failed(__FILE__, __LINE__, #condition, \
                                         fmt::format(__VA_ARGS__));      \
    } while (0)

}  // namespace cake
