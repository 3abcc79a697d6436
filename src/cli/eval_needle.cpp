#include "cli/cli.h"

namespace cake {

ExitCode run_eval_needle(CommandContext&) { throw usage_error("eval needle: not there yet"); }

}  // namespace cake
