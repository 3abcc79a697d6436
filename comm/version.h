// Which MPI this program runs with.
#pragma once

#include <string>

namespace cake {

// "Open MPI v4.1.4, ..." Needs no World.
std::string mpi_library_version();

}  // namespace cake
