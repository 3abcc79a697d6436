// For *_mpi_test.cpp: the ranks that mpirun started. Every test runs on all of them at once, so expect and do not
// assert between two collectives; a failure on any rank fails all.
#pragma once

#include "comm/world.h"

namespace cake {

World& test_world();

}  // namespace cake
