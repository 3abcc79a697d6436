#include "base/error.h"

#include <cstring>
#include <new>

namespace cake {

Failure current_failure() {
    try {
        throw;
    } catch (const Error& error) {
        return {error.code(), error.what()};
    } catch (const std::bad_alloc&) {
        return {
            ExitCode::Failed,
            "out of memory: the system gave no more (a limit of the shell, `ulimit -v`, or of the "
            "job?); `cake plan` says what a run takes"};
    } catch (const std::exception& error) {
        return {ExitCode::Failed, error.what()};
    } catch (...) {
        return {ExitCode::Failed, "an exception of an unknown kind"};
    }
}

namespace detail {

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
    const char* name = std::strrchr(file, '/');
    throw Error(
        fmt::format("{} ({} is false, {}:{})", message, condition, name ? name + 1 : file, line));
}

}  // namespace detail
}  // namespace cake
