// What launchers (mpirun, srun) leave in the environment of the processes that they start.
#pragma once

#include <string>

namespace cake {

struct Launcher {
    bool speaks_mpi = false;  // one that MPI knows: mpirun, or srun with PMIx or PMI
    int mpirun_ranks = 0;     // that Open MPI's mpirun started; 0: it was not used
    int pmi_ranks = 0;    // that MPICH's mpirun, or srun --mpi=pmi2, started; 0: neither was used
    int slurm_tasks = 0;  // of the job step that this process is a task of; 0: none
    int task = 0;         // this process's place among them
};

// As the environment has it now: MPI_Init changes it.
Launcher read_launcher();

// A process whose launcher speaks of another MPI, or of none, takes itself for rank 0 of 1; all of them would do the
// whole work and write over each other's files. Why MPI's `size` ranks cannot be all, and what to type; empty: they can.
std::string lost_ranks(const Launcher& launcher, int size);

}  // namespace cake
