// A fault that a test plants in a run, to see how the run ends: CAKE_FAULT="rank=1 part=prefill layer=2 how=segv".
#pragma once

#include <optional>
#include <string>

namespace cake {

struct Fault {
    std::string part;  // of the run, as messages call it
    int layer = -1;    // -1: whichever comes first
    std::string how;   // throw, abort, segv, kill, oom, exit, hang
};

// This rank's, from the environment. Usage error where that is not understood.
std::optional<Fault> planted_fault(int rank);

// Does it.
void strike(const Fault& fault);

}  // namespace cake
