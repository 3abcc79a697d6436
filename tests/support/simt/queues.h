// When the queues of the machine on the host run.
#pragma once

#include "kernels/cuda/launch.h"

namespace cake::gpu {

// A queue runs what is put into it at once. A late one runs it as late as it may: when the host waits for the queue, or
// another queue for an event in it, and then no further than to the event. Both are orders in which a GPU may run the
// same calls: with one queue late, and then the other, each wait that is missing between the two lets work run before
// what it needs, or after what it needs was overwritten.
void run_late(Queue queue, bool late = true);

// Leaves out a wait of the queue, `index` others from now on: for tests of tests.
void lose_wait(Queue queue, int index);

}  // namespace cake::gpu
