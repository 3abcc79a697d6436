#include "comm/launcher.h"

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>

namespace cake {
namespace {

int number(const char* name) {
    const char* value = std::getenv(name);
    return value ? std::atoi(value) : 0;
}

}  // namespace

Launcher read_launcher() {
    Launcher l;
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"})
        l.speaks_mpi = l.speaks_mpi || std::getenv(name);
    l.mpirun_ranks = number("OMPI_COMM_WORLD_SIZE");
    l.pmi_ranks = number("PMI_SIZE");
    l.slurm_tasks = number("SLURM_STEP_NUM_TASKS");
    // The launcher nearest to the process: under Slurm mpirun's ranks are children of a task of srun.
    for (const char* name : {"SLURM_PROCID", "PMIX_RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"})
        l.task = std::getenv(name) ? number(name) : l.task;
    return l;
}

std::string lost_ranks(const Launcher& launcher, int size) {
    const int by_mpirun = std::max(launcher.mpirun_ranks, launcher.pmi_ranks);
    if (by_mpirun == size)
        return "";  // and what Slurm counts are then mpirun's daemons
    if (launcher.slurm_tasks > 1 && size == 1 && launcher.mpirun_ranks == 0)
        return fmt::format(
            "srun started {} tasks, but they did not find each other over MPI: start them with "
            "`srun --mpi=pmix`, or with mpirun",
            launcher.slurm_tasks);
    if (by_mpirun > 1)
        return fmt::format(
            "mpirun started {} ranks, but MPI sees {}: it belongs to another MPI than this "
            "program; `cake version` names the program's, start it with that one's mpirun, or with "
            "`srun --mpi=pmix`",
            by_mpirun, size);
    return "";
}

}  // namespace cake
