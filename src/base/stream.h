// Order of work on a device.
#pragma once

namespace cake {

// A queue of work: what is put in runs in order. On the CPU everything has run when a call returns.
struct Stream {
    int index = 0;
};

// A point in a stream that others can wait for.
struct Event {
    int index = 0;
};

}  // namespace cake
