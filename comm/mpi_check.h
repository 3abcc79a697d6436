// MPI_CHECK(call): throws an Error that carries the call, file:line, MPI's words, the rank and the host.
// For mpi.cpp and world.cpp, the only files that speak MPI.
#pragma once

namespace cake::detail {

// Throws unless `code` is MPI_SUCCESS.
void mpi_check(int code, const char* call, const char* file, int line);

}  // namespace cake::detail

#define MPI_CHECK(call) ::cake::detail::mpi_check((call), #call, __FILE__, __LINE__)
