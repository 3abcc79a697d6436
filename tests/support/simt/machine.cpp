#include "simt/machine.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "base/error.h"
#include "simt/copies.h"
#include "simt/fiber.h"
#include "simt/shared_memory.h"

namespace cake::simt {

constinit thread_local Here here{};

namespace {

constexpr unsigned kWarp = 32;
constexpr unsigned kMostThreads = 1024;

const char* name_of(WarpOp op) {
    switch (op) {
        case WarpOp::Sync: return "__syncwarp";
        case WarpOp::Shuffle: return "__shfl_sync";
        case WarpOp::ShuffleXor: return "__shfl_xor_sync";
        case WarpOp::ShuffleUp: return "__shfl_up_sync";
        case WarpOp::ShuffleDown: return "__shfl_down_sync";
        case WarpOp::Ballot: return "__ballot_sync";
        case WarpOp::MatrixMultiply: return "mma_m16n8k16";
        case WarpOp::LoadMatrix: return "ldmatrix";
    }
    return "";
}

std::string place_of(const std::source_location& at) {
    const char* file = std::strrchr(at.file_name(), '/');
    return fmt::format("{}:{}", file ? file + 1 : at.file_name(), at.line());
}

bool same(const std::source_location& a, const std::source_location& b) {
    return a.line() == b.line() && a.column() == b.column() &&
           (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

enum class State { Started, WaitsForBlock, WaitsForWarp, Done };

struct CudaThread {
    Fiber fiber;
    uint3 index{};
    int lane = 0;
    unsigned warp = 0;
    State state = State::Done;  // what it last came to; whether it still waits there says its warp
    WarpOp op{};
    std::source_location waits_at;
    Copies copies;
};

// Lanes of a warp that meet under a mask. Two generations: who is slow still reads the last one.
struct Meeting {
    unsigned mask = 0, arrived = 0, generation = 0;
    WarpOp op{};
    std::source_location first_at;
    std::uint64_t values[2][kWarp] = {};
    char order[2] = {};  // addresses for ThreadSanitizer
};

struct Warp {
    static constexpr int kRoom = 40;
    Meeting meetings[kRoom];
    int n = 0;
    unsigned runnable = 0;  // lanes that wait for nothing
};

class Machine {
public:
    Machine() {
        const char* value = std::getenv("CAKE_SIMT_REVERSED");
        backwards = value && *value == '1';
    }
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;

    bool backwards = false;

    void run(const LaunchShape& shape, void (*kernel)(void*), void* arguments);
    [[noreturn]] void fail(const std::string& message, const std::source_location& at);
    int sync_block(bool vote, const std::source_location& at);
    const std::uint64_t* meet(WarpOp op, unsigned mask, std::uint64_t value,
                              const std::source_location& at);
    unsigned lanes_of_warp() const { return lanes_from(running_->warp * kWarp); }
    void* shared_array(const void* tag, std::size_t bytes, const char* name);
    void* dynamic_shared() const { return shared_.dynamic(); }
    Copies& copies() { return running_->copies; }

private:
    void run_block(uint3 block);
    bool run_warp(unsigned warp);
    CudaThread* next_of_warp(unsigned warp, int lane);
    void choose(CudaThread& t);
    void wait(State state, const std::source_location& at);
    void open_barrier();
    void make_runnable();
    // The lanes of a warp that begins there.
    unsigned lanes_from(unsigned begin) const {
        return n_ - begin >= kWarp ? ~0u : (1u << (n_ - begin)) - 1;
    }
    [[noreturn]] void report_deadlock();
    std::string describe(const CudaThread& t) const;

    LaunchShape shape_{};
    unsigned n_ = 0;  // threads of a block
    void (*kernel_)(void*) = nullptr;
    void* arguments_ = nullptr;

    std::vector<std::unique_ptr<CudaThread>> threads_;
    std::vector<std::unique_ptr<Warp>> warps_;
    CudaThread* running_ = nullptr;
    unsigned done_ = 0;
    std::string failure_;

    // The barrier of the block.
    unsigned at_barrier_ = 0;
    std::source_location barrier_at_;
    int votes_ = 0, result_ = 0;
    unsigned barrier_generation_ = 0;
    char barrier_order_[2] = {};

    SharedMemory shared_;
    char launch_order_ = 0, block_order_ = 0;  // addresses for ThreadSanitizer
};

Machine& machine() {
    thread_local Machine of_this_thread;
    return of_this_thread;
}

std::string Machine::describe(const CudaThread& t) const {
    return fmt::format("block ({}, {}, {}), thread ({}, {}, {})", here.block.x, here.block.y,
                       here.block.z, t.index.x, t.index.y, t.index.z);
}

// In a fiber: the scheduler throws for it.
void Machine::fail(const std::string& message, const std::source_location& at) {
    failure_ = fmt::format("{}: {} ({})", place_of(at), message, describe(*running_));
    running_->fiber.end();
}

// The next lane after this one that can run, round and round; null: none.
CudaThread* Machine::next_of_warp(unsigned warp, int lane) {
    const unsigned all = warps_[warp]->runnable;
    if (all == 0)
        return nullptr;
    const unsigned ahead = all & (backwards ? (1u << lane) - 1 : ~((2u << lane) - 1));
    const unsigned of = ahead ? ahead : all;
    const int next = backwards ? 31 - std::countl_zero(of) : std::countr_zero(of);
    return threads_[warp * kWarp + unsigned(next)].get();
}

void Machine::choose(CudaThread& t) {
    running_ = &t;
    here.thread = t.index;
    here.lane = t.lane;
}

// In a fiber: another of its warp goes on, the scheduler where none can.
void Machine::wait(State state, const std::source_location& at) {
    CudaThread& self = *running_;
    self.state = state;
    self.waits_at = at;
    warps_[self.warp]->runnable &= ~(1u << self.lane);
    if (CudaThread* next = next_of_warp(self.warp, self.lane)) {
        choose(*next);
        self.fiber.pass_to(next->fiber);
    } else {
        self.fiber.pause();
    }
}

int Machine::sync_block(bool vote, const std::source_location& at) {
    if (at_barrier_ == 0)
        barrier_at_ = at;
    else if (!same(barrier_at_, at))
        fail(fmt::format("divergent barrier: other threads wait at {}", place_of(barrier_at_)), at);
    votes_ += vote;
    ++at_barrier_;
    char* order = &barrier_order_[barrier_generation_ & 1];
    Fiber::release(order);
    wait(State::WaitsForBlock, at);
    Fiber::acquire(order);
    return result_;
}

void Machine::open_barrier() {
    result_ = votes_;
    votes_ = 0;
    at_barrier_ = 0;
    ++barrier_generation_;
    make_runnable();
}

// All lanes of all warps.
void Machine::make_runnable() {
    for (unsigned begin = 0; begin < n_; begin += kWarp)
        warps_[begin / kWarp]->runnable = lanes_from(begin);
}

const std::uint64_t* Machine::meet(WarpOp op, unsigned mask, std::uint64_t value,
                                   const std::source_location& at) {
    CudaThread& self = *running_;
    if (!(mask >> self.lane & 1))
        fail(fmt::format("{}: lane {} is not in its own mask {:#x}", name_of(op), self.lane, mask),
             at);
    mask &= lanes_of_warp();
    Warp& warp = *warps_[self.warp];
    Meeting* found = std::find_if(warp.meetings, warp.meetings + warp.n,
                                  [&](const Meeting& m) { return m.mask == mask; });
    if (found == warp.meetings + warp.n) {
        if (warp.n == Warp::kRoom)
            fail("too many different masks in one warp", at);
        ++warp.n;
        found->mask = mask;
        found->arrived = 0;
    }
    Meeting& meeting = *found;
    if (meeting.arrived == 0) {
        meeting.op = op;
        meeting.first_at = at;
    } else if (meeting.op != op) {
        fail(fmt::format("{} meets {} at {}", name_of(op), name_of(meeting.op),
                         place_of(meeting.first_at)),
             at);
    }

    const unsigned g = meeting.generation & 1;
    if (op == WarpOp::Sync)
        Fiber::release(&meeting.order[g]);
    meeting.values[g][self.lane] = value;
    meeting.arrived |= 1u << self.lane;
    if (meeting.arrived == mask) {
        meeting.arrived = 0;
        ++meeting.generation;
        warp.runnable |= mask;
    } else {
        self.op = op;
        wait(State::WaitsForWarp, at);
    }
    if (op == WarpOp::Sync)
        Fiber::acquire(&meeting.order[g]);
    return meeting.values[g];
}

void* Machine::shared_array(const void* tag, std::size_t bytes, const char* name) {
    void* data = shared_.array(tag, bytes);
    if (!data)
        fail(fmt::format("no shared memory left for {}", name), std::source_location::current());
    return data;
}

void Machine::report_deadlock() {
    std::string waiting;
    const CudaThread* last = nullptr;  // one thread for each place where a run of them waits
    for (unsigned i = 0, shown = 0; i < n_ && shown < 4; ++i) {
        const CudaThread& t = *threads_[i];
        if (t.state == State::Done || (last && same(t.waits_at, last->waits_at)))
            continue;
        last = &t;
        ++shown;
        waiting += fmt::format("; thread {} waits in {} at {}", i,
                               t.state == State::WaitsForBlock ? "__syncthreads" : name_of(t.op),
                               place_of(t.waits_at));
    }
    throw Error(fmt::format("{} in block ({}, {}, {}): {} of {} threads have ended{}",
                            at_barrier_ > 0 ? "divergent barrier" : "deadlock", here.block.x,
                            here.block.y, here.block.z, done_, n_, waiting));
}

// Until no lane can go on. False where none could.
bool Machine::run_warp(unsigned warp) {
    bool progress = false;
    while (CudaThread* t = next_of_warp(warp, backwards ? 0 : 31)) {
        progress = true;
        choose(*t);
        t->fiber.resume();
        if (!failure_.empty())
            throw Error(std::exchange(failure_, {}));
    }
    return progress;
}

void Machine::run_block(uint3 block) {
    here.block = block;
    done_ = at_barrier_ = 0;
    votes_ = 0;
    shared_.start_block(shape_.dynamic_shared_bytes);
    Fiber::release(&block_order_);  // to ThreadSanitizer the block's memory was written here
    for (unsigned w = 0; w * kWarp < n_; ++w)
        warps_[w]->n = 0;
    for (unsigned i = 0; i < n_; ++i) {
        CudaThread& t = *threads_[i];
        t.state = State::Started;
        t.copies.begin = t.copies.end = t.copies.group = 0;
        t.fiber.start(
            [](void* self) {
                auto& m = *static_cast<Machine*>(self);
                Fiber::acquire(&m.block_order_);
                m.kernel_(m.arguments_);
                m.running_->state = State::Done;
                m.warps_[m.running_->warp]->runnable &= ~(1u << m.running_->lane);
                ++m.done_;
            },
            this);
    }
    make_runnable();

    while (done_ < n_) {
        // A warp goes as far as it can before the next one runs: its stacks stay in the processor's cache.
        bool progress = false;
        const unsigned n_warps = (n_ + kWarp - 1) / kWarp;
        for (unsigned w = 0; w < n_warps; ++w)
            progress |= run_warp(backwards ? n_warps - 1 - w : w);
        if (at_barrier_ == n_)
            open_barrier();
        else if (!progress)
            report_deadlock();
    }
}

void Machine::run(const LaunchShape& shape, void (*kernel)(void*), void* arguments) {
    const dim3 g = shape.grid, b = shape.block;
    const std::uint64_t n = std::uint64_t(b.x) * b.y * b.z;
    if (n == 0 || n > kMostThreads || b.z > 64 || shape.dynamic_shared_bytes > kMostSharedBytes ||
        g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535)
        throw Error(fmt::format(
            "no GPU takes a grid of ({}, {}, {}) blocks of ({}, {}, {}) threads with {} bytes of "
            "dynamic shared memory",
            g.x, g.y, g.z, b.x, b.y, b.z, shape.dynamic_shared_bytes));
    shape_ = shape;
    n_ = unsigned(n);
    kernel_ = kernel;
    arguments_ = arguments;
    here.block_size = b;
    here.grid_size = g;
    while (threads_.size() < n)
        threads_.push_back(std::make_unique<CudaThread>());
    while (warps_.size() * kWarp < n)
        warps_.push_back(std::make_unique<Warp>());

    // One queue, in order: a launch sees all before it, and all after it see the launch.
    Fiber::release(&launch_order_);
    for (unsigned i = 0; i < n_; ++i) {
        CudaThread& t = *threads_[i];
        t.index = {i % b.x, i / b.x % b.y, i / (b.x * b.y)};
        t.lane = int(i % kWarp);
        t.warp = i / kWarp;
        t.fiber.acquire_as(&launch_order_);
    }
    try {
        for (unsigned z = 0; z < g.z; ++z)
            for (unsigned y = 0; y < g.y; ++y)
                for (unsigned x = 0; x < g.x; ++x)
                    run_block(backwards ? uint3{g.x - 1 - x, g.y - 1 - y, g.z - 1 - z}
                                        : uint3{x, y, z});
    } catch (...) {
        threads_.clear();  // fibers that stopped midway
        throw;
    }
    for (unsigned i = 0; i < n_; ++i)
        threads_[i]->fiber.release_as(&launch_order_);
    Fiber::acquire(&launch_order_);
}

}  // namespace

void run(const LaunchShape& shape, void (*kernel)(void*), void* arguments) {
    machine().run(shape, kernel, arguments);
}
void run_backwards(bool backwards) { machine().backwards = backwards; }

void fail(const std::string& message, const std::source_location& at) {
    machine().fail(message, at);
}
int sync_block(bool vote, const std::source_location& at) { return machine().sync_block(vote, at); }
std::uint64_t LaneValues::operator[](int lane) const { return values_[lane]; }
LaneValues meet(WarpOp op, unsigned mask, std::uint64_t value, const std::source_location& at) {
    return LaneValues(machine().meet(op, mask, value, at));
}
unsigned lanes_of_warp() { return machine().lanes_of_warp(); }
void* shared_array(const void* tag, std::size_t bytes, const char* name) {
    return machine().shared_array(tag, bytes, name);
}
void* dynamic_shared() { return machine().dynamic_shared(); }
Copies& copies() { return machine().copies(); }

}  // namespace cake::simt
