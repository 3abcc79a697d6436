// Copies in the background that a CUDA thread has begun (cp.async).
#pragma once

#include "simt/machine.h"

namespace cake::simt {

// Fixed room, as for all that a running fiber writes down: no allocation happens in a fiber, and ThreadSanitizer, which
// watches malloc, has nothing to misunderstand.
struct Copies {
    static constexpr int kRoom = 256;
    PendingCopy pending[kRoom];
    int begin = 0, end = 0;  // the pending ones, oldest first
    int group = 0;           // the open one
};

// Of the CUDA thread that runs.
Copies& copies();

}  // namespace cake::simt
