// A function with its own stack, which another can leave and resume. For the sanitizers each is a thread, or a stack, of
// its own (CAKE_SIMT_TSAN, CAKE_SIMT_ASAN: what the kernels are compiled with; the machine itself is not).
#pragma once

#include <cstddef>

namespace cake::simt {

class Fiber {
public:
    Fiber();
    ~Fiber();
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    // What resume() will run. A function under way is forgotten.
    void start(void (*function)(void*), void* argument);
    // From the thread's own stack: runs the function until it pauses or ends, or one that it passed to does.
    void resume();
    // From inside.
    void pause();
    // From inside: the other goes on, as if resumed from where this one was.
    void pass_to(Fiber& other);
    // Instead of returning.
    [[noreturn]] void end();

    // For ThreadSanitizer: what this fiber did is seen by whoever acquires the same address later.
    static void release(void* address);
    static void acquire(void* address);
    // The same, done in the fiber's name from outside.
    void release_as(void* address);
    void acquire_as(void* address);

private:
    static void entry();
    void arrive();

    char* stack_ = nullptr;
    void* own_sp_ = nullptr;
    void (*function_)(void*) = nullptr;
    void* argument_ = nullptr;
    // Sanitizers.
    void* tsan_ = nullptr;
    void* asan_fake_ = nullptr;
};

}  // namespace cake::simt
