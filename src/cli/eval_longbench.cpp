#include "cli/cli.h"

namespace cake {

ExitCode run_eval_longbench(CommandContext&) { throw usage_error("eval longbench: not there yet"); }

}  // namespace cake
