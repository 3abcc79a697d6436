// Loops over threads, for the kernels of the CPU backend.
#pragma once

#include <cstdint>

#include <omp.h>

namespace cake {

// Calls fn(i, worker) for i = 0 .. n, over `threads` OpenMP threads; worker, 0 .. threads, tells
// the threads' scratch memory apart. Items are handed out one by one as threads come free, so an
// item should be worth some microseconds. Which thread runs an item is open: a result must not
// depend on it. fn must not throw. With one thread, or one item, fn is simply called in order:
// ranks that are threads of one process (tests) then start no others.
template <typename Fn>
void parallel_for_workers(int threads, std::int64_t n, const Fn& fn) {
    if (threads <= 1 || n <= 1) {
        for (std::int64_t i = 0; i < n; ++i)
            fn(i, 0);
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (std::int64_t i = 0; i < n; ++i)
        fn(i, omp_get_thread_num());
}

// Calls fn(i) in the same way.
template <typename Fn>
void parallel_for(int threads, std::int64_t n, const Fn& fn) {
    parallel_for_workers(threads, n, [&](std::int64_t i, int) { fn(i); });
}

// Calls fn(begin, end) for pieces of 0 .. n, each of at most `grain` items: for loops whose single
// items are small.
template <typename Fn>
void parallel_pieces(int threads, std::int64_t n, std::int64_t grain, const Fn& fn) {
    parallel_for(threads, (n + grain - 1) / grain, [&](std::int64_t piece) {
        const std::int64_t begin = piece * grain;
        fn(begin, begin + grain < n ? begin + grain : n);
    });
}

}  // namespace cake
