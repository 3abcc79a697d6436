#include "base/fault.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <sys/resource.h>
#include <thread>
#include <vector>

#include "base/error.h"

namespace cake {
namespace {

int number(const std::string& word, const std::string& value) {
    int n = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), n);
    if (error != std::errc() || end != value.data() + value.size())
        throw usage_error("CAKE_FAULT: {} is '{}', which is no number", word, value);
    return n;
}

[[noreturn]] void run_out_of_memory() {
    const rlimit nothing_more{1, RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &nothing_more);
    for (std::vector<std::vector<char>> eaten;;)
        eaten.emplace_back(std::size_t(64) << 20);
}

}  // namespace

std::optional<Fault> planted_fault(int rank) {
    const char* text = std::getenv("CAKE_FAULT");
    if (!text)
        return {};
    Fault fault;
    int wanted = 0;
    std::istringstream words(text);
    for (std::string word; words >> word;) {
        const std::size_t equals = std::min(word.find('='), word.size());
        const std::string key = word.substr(0, equals);
        const std::string value = word.substr(std::min(equals + 1, word.size()));
        if (key == "rank")
            wanted = number(key, value);
        else if (key == "layer")
            fault.layer = number(key, value);
        else if (key == "part")
            fault.part = value;
        else if (key == "how")
            fault.how = value;
        else
            throw usage_error("CAKE_FAULT: unknown word '{}'", word);
    }
    constexpr std::array known{"throw", "abort", "segv", "kill", "oom", "exit", "hang"};
    if (std::find(known.begin(), known.end(), fault.how) == known.end())
        throw usage_error(
            "CAKE_FAULT: how is '{}': one of throw, abort, segv, kill, oom, exit, hang", fault.how);
    return wanted == rank ? std::optional(fault) : std::nullopt;
}

void strike(const Fault& fault) {
    if (const char* mark = std::getenv("CAKE_FAULT_MARK"))
        std::ofstream(mark) << fault.how;  // when it was, for tests
    if (fault.how == "throw")
        throw std::runtime_error("a planted fault");
    if (fault.how == "abort")
        std::abort();
    volatile std::uintptr_t nowhere = 16;
    if (fault.how == "segv")
        *reinterpret_cast<volatile int*>(nowhere) = 1;
    if (fault.how == "kill")
        std::raise(SIGKILL);
    if (fault.how == "oom")
        run_out_of_memory();
    if (fault.how == "exit")
        std::exit(3);
    for (volatile int turns = 0;;)  // hang
        turns = turns + 1;
}

}  // namespace cake
