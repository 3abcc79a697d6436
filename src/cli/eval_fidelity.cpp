#include "cli/cli.h"

namespace cake {

ExitCode run_eval_fidelity(CommandContext&) { throw usage_error("eval fidelity: not there yet"); }

}  // namespace cake
