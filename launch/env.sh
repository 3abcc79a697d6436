# shellcheck shell=bash
# Environment of every MPI run on this side of a cluster's own launcher. To be sourced.
# Whatever the user has set already stays as it is.

# Open MPI refuses to run as root, as in a container, unless told twice.
if (( EUID == 0 )); then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

# A waiting rank spins, and yields only if Open MPI knows that the cores are oversubscribed;
# where it does not (Slurm, containers), a 16-byte all-reduce takes 10 ms instead of 20 us.
export OMPI_MCA_mpi_yield_when_idle="${OMPI_MCA_mpi_yield_when_idle:-1}"

# Binding ranks to cores that other jobs use as well makes them wait for these jobs.
export OMPI_MCA_hwloc_base_binding_policy="${OMPI_MCA_hwloc_base_binding_policy:-none}"

# OpenMP threads that spin while they wait starve the other ranks on shared cores.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"

# The program says what went wrong, once; mpirun would put two boxes of text around it.
export OMPI_MCA_orte_execute_quiet="${OMPI_MCA_orte_execute_quiet:-1}"
