#include "support/run_program.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/timer.h"

namespace cake::test {
namespace {

struct Pipe {
    std::array<int, 2> ends{-1, -1};  // read, write
    Pipe() { CAKE_CHECK(pipe2(ends.data(), O_CLOEXEC) == 0, "no pipe: errno {}", errno); }
    ~Pipe() {
        close_end(0);
        close_end(1);
    }
    void close_end(int i) {
        if (ends[std::size_t(i)] >= 0)
            close(ends[std::size_t(i)]);
        ends[std::size_t(i)] = -1;
    }
};

std::string from_environment(const char* name) {
    const char* value = std::getenv(name);
    CAKE_CHECK(value && *value, "{} is not set: run the tests through ctest", name);
    return value;
}

// Runs in the new process; nothing here may throw.
[[noreturn]] void become(std::vector<char*>& argv, const ProgramOptions& options, const Pipe& in,
                         const Pipe& out, const Pipe& err) {
    setpgid(0, 0);  // so that a timeout ends what it starts as well
    dup2(in.ends[0], 0);
    dup2(out.ends[1], 1);
    dup2(err.ends[1], 2);
    setenv("CUDA_VISIBLE_DEVICES", "", 1);  // what is expected of the program is what a CPU gives
    for (const auto& [name, value] : options.environment)
        value ? setenv(name.c_str(), value->c_str(), 1) : unsetenv(name.c_str());
    execvp(argv[0], argv.data());
    _exit(127);
}

// Feeds and drains the pipes until the program has closed its ends. False: the time was over first.
bool exchange(pid_t pid, const ProgramOptions& options, Pipe& in, Pipe& out, Pipe& err,
              ProgramResult& result) {
    const Timer timer;
    std::size_t sent = 0, n_signals = 0;
    std::array<char, 65536> bytes;
    while (out.ends[0] >= 0 || err.ends[0] >= 0) {
        if (sent == options.input.size())
            in.close_end(1);
        std::array<pollfd, 3> wanted{
            {{in.ends[1], POLLOUT, 0}, {out.ends[0], POLLIN, 0}, {err.ends[0], POLLIN, 0}}};
        const double left_s = options.timeout_s - timer.seconds();
        if (left_s <= 0)
            return false;
        double wait_s = left_s;
        if (n_signals < options.signals.size()) {
            const auto& [is_time, signal] = options.signals[n_signals];
            wait_s = std::min(wait_s, 0.01);
            if (is_time(timer.seconds())) {
                kill(pid, signal);
                ++n_signals;
            }
        }
        if (poll(wanted.data(), wanted.size(), int(wait_s * 1000) + 1) < 0 && errno != EINTR)
            return false;

        if (wanted[0].revents) {
            const ssize_t n =
                write(in.ends[1], options.input.data() + sent, options.input.size() - sent);
            sent = n > 0 ? sent + std::size_t(n) : options.input.size();  // it no longer listens
        }
        for (int i : {1, 2}) {
            if (!wanted[std::size_t(i)].revents)
                continue;
            const ssize_t n = read(wanted[std::size_t(i)].fd, bytes.data(), bytes.size());
            if (n > 0)
                (i == 1 ? result.out : result.err).append(bytes.data(), std::size_t(n));
            else
                (i == 1 ? out : err).close_end(0);
        }
    }
    return true;
}

}  // namespace

ProgramResult run_command(std::vector<std::string> command, const ProgramOptions& options) {
    std::vector<char*> argv;
    for (std::string& word : command)
        argv.push_back(word.data());
    argv.push_back(nullptr);

    signal(SIGPIPE, SIG_IGN);  // a program that ends before it has read its input
    Pipe in, out, err;
    const pid_t pid = fork();
    CAKE_CHECK(pid >= 0, "no new process: errno {}", errno);
    if (pid == 0)
        become(argv, options, in, out, err);
    in.close_end(0);
    out.close_end(1);
    err.close_end(1);

    ProgramResult result;
    result.timed_out = !exchange(pid, options, in, out, err, result);
    if (result.timed_out)
        kill(-pid, SIGKILL);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    result.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return result;
}

ProgramResult run_program(const std::vector<std::string>& arguments,
                          const ProgramOptions& options) {
    std::vector<std::string> command{from_environment("CAKE_PROGRAM")};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return run_command(std::move(command), options);
}

ProgramResult run_program_on_ranks(int ranks, const std::vector<std::string>& arguments,
                                   const ProgramOptions& options) {
    std::vector<std::string> command{from_environment("CAKE_MPIEXEC"), "--oversubscribe", "-n",
                                     std::to_string(ranks), from_environment("CAKE_PROGRAM")};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return run_command(std::move(command), options);
}

}  // namespace cake::test
