#include "simt/fiber.h"

#include <cstdint>
#include <new>
#include <sys/mman.h>
#include <utility>

#ifdef CAKE_SIMT_TSAN
extern "C" {
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void* __tsan_get_current_fiber();
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif
#ifdef CAKE_SIMT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Saves what a function must keep (System V ABI of x86-64), and goes on where `load` was saved.
extern "C" void cake_simt_switch(void** save_sp, void* load_sp);
asm(R"(
.text
.globl cake_simt_switch
.type cake_simt_switch, @function
cake_simt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size cake_simt_switch, . - cake_simt_switch
)");

namespace cake::simt {
namespace {

constexpr std::size_t kStackBytes = 128 * 1024;
constexpr int kSavedRegisters = 6;

// Each thread of the operating system runs one fiber at a time.
constinit thread_local Fiber* running = nullptr;

// Where the thread's own stack is left.
struct Resumer {
    void* sp;
    void* tsan;
    const void* asan_stack;
    std::size_t asan_stack_bytes;
    bool left_last;  // not a fiber
};
constinit thread_local Resumer resumer{};
#ifdef CAKE_SIMT_TSAN
constexpr unsigned kNoSync = 1;  // a switch orders nothing
#endif

}  // namespace

Fiber::Fiber() {
    void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED)
        throw std::bad_alloc();
    stack_ = static_cast<char*>(stack);
#ifdef CAKE_SIMT_TSAN
    tsan_ = __tsan_create_fiber(kNoSync);
#endif
}

Fiber::~Fiber() {
#ifdef CAKE_SIMT_TSAN
    __tsan_destroy_fiber(tsan_);
#endif
    munmap(stack_, kStackBytes);
}

void Fiber::start(void (*function)(void*), void* argument) {
    function_ = function;
    argument_ = argument;
    asan_fake_ = nullptr;
#ifdef CAKE_SIMT_ASAN
    __asan_unpoison_memory_region(stack_, kStackBytes);  // of functions that were forgotten
#endif
    // As if the function before entry() had called the switch: registers, where to return, and its own return address.
    // Stacks lie a power of two apart; that neighbours share no line of a cache, each begins elsewhere in its page.
    const std::size_t shift = std::uintptr_t(stack_) / kStackBytes % 32 * 128;
    auto* sp = reinterpret_cast<void**>(stack_ + kStackBytes - 64 - shift);
    *--sp = nullptr;
    *--sp = reinterpret_cast<void*>(&Fiber::entry);
    for (int i = 0; i < kSavedRegisters; ++i)
        *--sp = nullptr;
    own_sp_ = sp;
}

void Fiber::entry() {
    Fiber& self = *running;
    self.arrive();
    self.function_(self.argument_);
    self.end();
}

// The first that happens on this stack after a switch to it.
void Fiber::arrive() {
#ifdef CAKE_SIMT_ASAN
    const bool from_thread = std::exchange(resumer.left_last, false);
    __sanitizer_finish_switch_fiber(asan_fake_, from_thread ? &resumer.asan_stack : nullptr,
                                    from_thread ? &resumer.asan_stack_bytes : nullptr);
#endif
}

void Fiber::resume() {
    running = this;
#ifdef CAKE_SIMT_TSAN
    resumer.tsan = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(tsan_, kNoSync);
#endif
#ifdef CAKE_SIMT_ASAN
    void* fake = nullptr;
    resumer.left_last = true;
    __sanitizer_start_switch_fiber(&fake, stack_, kStackBytes);
#endif
    cake_simt_switch(&resumer.sp, own_sp_);
#ifdef CAKE_SIMT_ASAN
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
    running = nullptr;
}

void Fiber::pause() {
#ifdef CAKE_SIMT_TSAN
    __tsan_switch_to_fiber(resumer.tsan, kNoSync);
#endif
#ifdef CAKE_SIMT_ASAN
    __sanitizer_start_switch_fiber(&asan_fake_, resumer.asan_stack, resumer.asan_stack_bytes);
#endif
    cake_simt_switch(&own_sp_, resumer.sp);
    arrive();
}

void Fiber::pass_to(Fiber& other) {
    running = &other;
#ifdef CAKE_SIMT_TSAN
    __tsan_switch_to_fiber(other.tsan_, kNoSync);
#endif
#ifdef CAKE_SIMT_ASAN
    __sanitizer_start_switch_fiber(&asan_fake_, other.stack_, kStackBytes);
#endif
    cake_simt_switch(&own_sp_, other.own_sp_);
    arrive();
}

void Fiber::end() {
    pause();
    __builtin_unreachable();  // nothing resumes what has ended
}

#ifdef CAKE_SIMT_TSAN
void Fiber::release(void* address) { __tsan_release(address); }
void Fiber::acquire(void* address) { __tsan_acquire(address); }
void Fiber::release_as(void* address) {
    void* const here = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(tsan_, kNoSync);
    __tsan_release(address);
    __tsan_switch_to_fiber(here, kNoSync);
}
void Fiber::acquire_as(void* address) {
    void* const here = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(tsan_, kNoSync);
    __tsan_acquire(address);
    __tsan_switch_to_fiber(here, kNoSync);
}
#else
void Fiber::release(void*) {}
void Fiber::acquire(void*) {}
void Fiber::release_as(void*) {}
void Fiber::acquire_as(void*) {}
#endif

}  // namespace cake::simt
