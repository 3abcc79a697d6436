// SIGTERM and SIGUSR1: the wish that a long job ends soon and in good order.
#pragma once

namespace cake {

// From its making to the end of the process the first of these signals is noted, and the second ends the process at once
// with exit code 75. Make one.
class StopSignals {
public:
    StopSignals();
    static bool came();  // false too where none was made
};

}  // namespace cake
