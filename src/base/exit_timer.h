// The last resort of a process that has to end: what would end it in good order may wait for what never comes.
#pragma once

namespace cake {

// Ends the process with this exit code so many seconds from now, whatever it is doing then. For signal handlers too.
// `why`, of static storage, is said then, on stderr.
void exit_after(int seconds, int exit_code, const char* why = "");
// Not, after all.
void cancel_exit();

}  // namespace cake
