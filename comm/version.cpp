#include "comm/version.h"

#include <mpi.h>

namespace cake {

std::string mpi_library_version() {
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
    int length = 0;
    if (MPI_Get_library_version(text, &length) != MPI_SUCCESS)
        return "unknown";  // allowed before MPI_Init
    const std::string version(text, std::size_t(length));
    return version.substr(0, version.find_first_of(",\n"));  // Open MPI adds who built it and where
}

}  // namespace cake
