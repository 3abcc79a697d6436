#include "simt/memory.h"

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string_view>
#include <sys/mman.h>
#include <unistd.h>

namespace cake::simt {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::size_t kReserved = std::size_t(64)
                                  << 30;  // addresses; memory is taken when it is touched
// Rights are changed in pieces of this size: where the system has huge pages, that is one entry of its tables, not 512.
constexpr std::size_t kHugePage = std::size_t(2) << 20;

std::uintptr_t round_up(std::uintptr_t n, std::uintptr_t unit) {
    return (n + unit - 1) / unit * unit;
}

// Addresses in one piece, so that one call changes who may touch all that was ever handed out.
class Arena {
public:
    Arena() {
        void* data = mmap(nullptr, kReserved + kHugePage, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (data == MAP_FAILED)
            std::abort();
        base_ = reinterpret_cast<char*>(round_up(std::uintptr_t(data), kHugePage));
        madvise(base_, kReserved,
                MADV_HUGEPAGE);  // fails where there are none, which is only slower
        free_[0] = kReserved;
        report_faults();
    }

    void* allocate(std::size_t bytes) {
        bytes = round_up(bytes, kAlignment);
        const std::scoped_lock lock(mutex_);
        const auto gap = std::find_if(free_.begin(), free_.end(),
                                      [&](const auto& piece) { return piece.second >= bytes; });
        if (gap == free_.end())
            return nullptr;
        const auto [offset, room] = *gap;
        free_.erase(gap);
        if (room > bytes)
            free_[offset + bytes] = room - bytes;
        taken_[offset] = bytes;
        if (offset + bytes > used_) {
            used_ = round_up(offset + bytes, kHugePage);
            if (openers_ > 0)
                protect(PROT_READ | PROT_WRITE);
        }
        return base_ + offset;
    }

    void free(void* data) {
        const std::scoped_lock lock(mutex_);
        const auto taken = taken_.find(std::size_t(static_cast<char*>(data) - base_));
        auto here = free_.insert(*taken).first;
        taken_.erase(taken);
        const auto next = std::next(here);
        if (next != free_.end() && here->first + here->second == next->first) {
            here->second += next->second;
            free_.erase(next);
        }
        if (here == free_.begin())
            return;
        const auto before = std::prev(here);
        if (before->first + before->second == here->first) {
            before->second += here->second;
            free_.erase(here);
        }
    }

    void open() {
        const std::scoped_lock lock(mutex_);
        if (openers_++ == 0)
            protect(PROT_READ | PROT_WRITE);
    }
    void close() {
        const std::scoped_lock lock(mutex_);
        if (--openers_ == 0)
            protect(PROT_NONE);
    }
    bool holds(const void* address) const {
        return address >= base_ && address < base_ + kReserved;
    }

private:
    void protect(int rights) {
        if (used_ > 0 && mprotect(base_, used_, rights) != 0)
            std::abort();
    }
    static void report_faults();

    std::mutex mutex_;
    char* base_ = nullptr;
    std::map<std::size_t, std::size_t> free_, taken_;  // bytes by offset
    std::size_t used_ = 0;                             // of the addresses, so far
    int openers_ = 0;
};

// Never destroyed: what is freed last may be a static.
Arena& arena() {
    static Arena& the_arena = *new Arena;
    return the_arena;
}

struct sigaction former_action;

void say_who_touched(int signal, siginfo_t* info, void*) {
    if (arena().holds(info->si_addr)) {
        constexpr std::string_view line =
            "host code has touched device memory: copy it (Backend::copy)\n";
        [[maybe_unused]] const auto written = write(2, line.data(), line.size());
    }
    sigaction(signal, &former_action, nullptr);  // the access happens again, and ends the program
}

void Arena::report_faults() {
    struct sigaction action = {};
    action.sa_sigaction = say_who_touched;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &former_action);
}

}  // namespace

bool guards_device_memory() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false;
#else
    static const bool guards = [] {
        const char* wanted = std::getenv("CAKE_SIMT_GUARD");
        return !wanted || std::string_view(wanted) != "0";
    }();
    return guards;
#endif
}

void* allocate_device(std::size_t bytes) {
    if (bytes == 0)
        return nullptr;
    void* data = nullptr;
    if (guards_device_memory()) {
        if (bytes <= kReserved)
            data = arena().allocate(bytes);
    } else {
        data = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
    }
    if (data) {
        const DeviceAccess access;
        std::memset(data, 0xff,
                    bytes);  // NaN in every float format: who reads before writing shows
    }
    return data;
}

void free_device(void* data) noexcept {
    if (!guards_device_memory())
        std::free(data);
    else if (data)
        arena().free(data);
}

DeviceAccess::DeviceAccess() {
    if (guards_device_memory())
        arena().open();
}
DeviceAccess::~DeviceAccess() {
    if (guards_device_memory())
        arena().close();
}

}  // namespace cake::simt
