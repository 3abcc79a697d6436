// Ranks as threads of one process, for tests.
#pragma once

#include <chrono>
#include <functional>

#include "comm/communicator.h"

namespace cake {

// Runs `body` on n threads, each with its communicator ("threads"), and joins them. Sums are made in rank order, so
// results are those of MPI with as many ranks, bit for bit.
//
// No test hangs. When a rank throws, the others get an Error from their current or next collective, and the first
// exception is thrown again here. The same happens where a rank returns while others wait for it, where ranks make
// different calls (one sums, one gathers; other lengths), and where a rank waits longer than `deadline`.
void run_ranks(int n, const std::function<void(Communicator&)>& body,
               std::chrono::milliseconds deadline = std::chrono::minutes(2));

}  // namespace cake
