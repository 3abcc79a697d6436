#include "comm/nccl.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <future>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include <cuda_runtime.h>
#include <nccl.h>
#include <spdlog/spdlog.h>

#include "base/log.h"
#include "comm/gather_parts.h"

static_assert(NCCL_VERSION_CODE >= NCCL_VERSION(2, 19, 0), "ncclMemAlloc came with NCCL 2.19");

namespace cake {
namespace {

using Clock = std::chrono::steady_clock;

// Where a call stands in this file, for messages.
struct Call {
    const char* text;
    int line;
};

void cuda_check(cudaError_t error, Call call) {
    if (error != cudaSuccess)
        throw Error(
            fmt::format("{}: {} (nccl.cpp:{})", call.text, cudaGetErrorString(error), call.line));
}
#define CUDA_CHECK(call) cuda_check((call), {#call, __LINE__})

int library_version() {
    int version = 0;
    return ncclGetVersion(&version) == ncclSuccess ? version : 0;
}

// ---- GPUs that two ranks share -----------------------------------------------------------------------------------------

// The calling thread's; the same text for every process that uses it.
std::string place_of_gpu() {
    int device = 0;
    char bus[32] = {};
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaDeviceGetPCIBusId(bus, int(sizeof(bus)), device));
    return fmt::format("{} {}", host_name(), bus);
}

// Before NCCL does it in words of its own.
void refuse_shared_gpus(const std::vector<std::string>& gpus) {
    if (nccl_shares_gpus())
        return;
    for (auto gpu = gpus.begin(); gpu != gpus.end(); ++gpu) {
        const auto first = std::find(gpus.begin(), gpu, *gpu);
        if (first != gpu)
            throw usage_error(
                "ranks {} and {} have the same GPU, {}, and NCCL {} wants one for each: start one "
                "rank per GPU, or let ranks share one with --share-gpu",
                first - gpus.begin(), gpu - gpus.begin(), *gpu, nccl_version());
    }
}

// ---- the communicator --------------------------------------------------------------------------------------------------

ncclDataType_t sum_type(DType dtype) {
    CAKE_CHECK(dtype == DType::F32 || dtype == DType::BF16,
               "all_reduce_sum takes f32 or bf16, not {}", cake::name(dtype));
    return dtype == DType::F32 ? ncclFloat32 : ncclBfloat16;
}

// No call of NCCL blocks (blocking = 0), so that the host never waits where it cannot give up: each is asked after until
// it is in the stream.
class NcclCommunicator final : public Communicator {
public:
    NcclCommunicator(std::unique_ptr<Communicator> host, NcclDevice device);
    ~NcclCommunicator() override;
    NcclCommunicator(const NcclCommunicator&) = delete;
    NcclCommunicator& operator=(const NcclCommunicator&) = delete;

    int rank() const override { return host_->rank(); }
    int size() const override { return host_->size(); }
    std::string name() const override { return "nccl"; }
    void all_reduce_sum(Stream s, View data) override;
    void all_gather(Stream s, View part, std::span<const std::int64_t> elements, View out) override;
    void broadcast(Stream s, View data, int root) override;

    void sum(std::span<double> values) override { host().sum(values); }
    void broadcast_bytes(std::span<std::byte> bytes, int root) override {
        host().broadcast_bytes(bytes, root);
    }
    std::vector<std::string> gather_strings(const std::string& mine) override {
        return host().gather_strings(mine);
    }
    void barrier() override { host().barrier(); }
    std::unique_ptr<Communicator> split(int color) override {
        return std::make_unique<NcclCommunicator>(host().split(color), device_);
    }
    Traffic traffic() const override;
    bool in_stream() const override { return true; }
    void count_again(const Traffic& sent) override { traffic_ += sent; }

    Buffer symmetric_memory(std::size_t bytes);

private:
    void check();
    bool alone() const { return size() == 1; }
    cudaStream_t stream(Stream s) const { return device_.cuda_stream(s); }
    ncclComm_t comm() {
        check();
        return comm_;
    }
    Communicator& host() {
        check();
        return *host_;
    }
    void count_other(std::size_t bytes) {
        ++traffic_.other_calls;
        traffic_.other_bytes += std::int64_t(bytes);
    }

    void gather_uneven(Stream s, View part, std::span<const std::int64_t> elements, View out);
    std::optional<ncclResult_t> outcome(ncclResult_t result, Clock::time_point until);
    void settle(ncclResult_t result, Call call);
    [[noreturn]] void give_up(const std::string& why);
    void log_failure(ncclResult_t result, const char* call) const;

    std::unique_ptr<Communicator> host_;
    NcclDevice device_;
    ncclComm_t comm_ = nullptr;  // null: one rank alone, or given up
    std::string failure_;        // why it was given up
    std::future<ncclResult_t> aborting_;
    std::shared_ptr<void> watch_;  // lets check() be called while the host waits
    Traffic traffic_;              // of what went through NCCL
    int exceptions_ = std::uncaught_exceptions();
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
    struct Window {
        void* memory;
        ncclWindow_t window;
    };
    std::vector<Window> windows_;
#endif
};

// `call` is one of NCCL's: returns when NCCL has put it into the stream, throws with the call and NCCL's words.
#define NCCL_CHECK(call) settle((call), {#call, __LINE__})

NcclCommunicator::NcclCommunicator(std::unique_ptr<Communicator> host, NcclDevice device)
    : host_(std::move(host)), device_(std::move(device)) {
    if (alone())
        return;
    const auto start = host_->split(0);  // what starts NCCL is no traffic of the model's
    refuse_shared_gpus(start->gather_strings(place_of_gpu()));

    ncclUniqueId id{};
    if (rank() == 0)
        NCCL_CHECK(ncclGetUniqueId(&id));
    start->broadcast_bytes(std::as_writable_bytes(std::span(&id, 1)), 0);

    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    NCCL_CHECK(ncclCommInitRankConfig(&comm_, size(), id, rank(), &config));
    if (device_.while_waiting)
        watch_ = device_.while_waiting([this] { check(); });
}

NcclCommunicator::~NcclCommunicator() {
    const bool unwinds = std::uncaught_exceptions() > exceptions_;
    if (aborting_.valid())
        log_failure(aborting_.get(), "ncclCommAbort");
    if (comm_ && unwinds)  // the other ranks may be anywhere
        log_failure(ncclCommAbort(std::exchange(comm_, nullptr)), "ncclCommAbort");
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
    for (const Window& w : windows_) {
        if (comm_)
            log_failure(ncclCommWindowDeregister(comm_, w.window), "ncclCommWindowDeregister");
        log_failure(ncclMemFree(w.memory), "ncclMemFree");
    }
#endif
    if (!comm_)
        return;
    const auto result = outcome(ncclCommFinalize(comm_), Clock::now() + device_.start_within);
    if (result == ncclSuccess) {
        log_failure(ncclCommDestroy(comm_), "ncclCommDestroy");
    } else {
        spdlog::error("ncclCommFinalize: {}", result ? ncclGetErrorString(*result) : "no end");
        log_failure(ncclCommAbort(comm_), "ncclCommAbort");
    }
}

void NcclCommunicator::log_failure(ncclResult_t result, const char* call) const {
    if (result != ncclSuccess && result != ncclInProgress)
        spdlog::error("{}: {}", call, ncclGetErrorString(result));
}

// ---- what NCCL answers

// How a call ended whose first answer was `result`; nothing where it has not until then.
std::optional<ncclResult_t> NcclCommunicator::outcome(ncclResult_t result,
                                                      Clock::time_point until) {
    const auto begin = Clock::now();
    while (result == ncclInProgress) {
        const auto now = Clock::now();
        if (now >= until)
            return {};
        // A launch takes some tens of microseconds, a start seconds.
        if (now - begin < std::chrono::milliseconds(1))
            std::this_thread::yield();
        else
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        ncclResult_t state = ncclInProgress;
        const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
        result = asked == ncclSuccess ? state : asked;
    }
    return result;
}

void NcclCommunicator::settle(ncclResult_t result, Call call) {
    const auto end = outcome(result, Clock::now() + device_.start_within);
    if (end == ncclSuccess)
        return;
    const std::string place = fmt::format("{} (nccl.cpp:{})", call.text, call.line);
    if (!end)
        give_up(
            fmt::format("{}: not done after {} s; NCCL_DEBUG=INFO shows what NCCL waits for, and "
                        "--share-gpu does without it",
                        place, std::chrono::duration<double>(device_.start_within).count()));
    give_up(fmt::format("{}: {}: {}", place, ncclGetErrorString(*end), ncclGetLastError(comm_)));
}

void NcclCommunicator::give_up(const std::string& why) {
    failure_ = why;
    if (comm_) {
        // Which stops all that is under way, and then waits for captured graphs: they go with what is thrown here.
        aborting_ = std::async(std::launch::async, ncclCommAbort, std::exchange(comm_, nullptr));
        aborting_.wait_for(std::chrono::seconds(1));
    }
    throw Error(failure_);
}

void NcclCommunicator::check() {
    if (!failure_.empty())
        throw Error(failure_);
    if (!comm_)
        return;
    ncclResult_t state = ncclSuccess;
    NCCL_CHECK(ncclCommGetAsyncError(comm_, &state));
    if (state != ncclSuccess && state != ncclInProgress)
        give_up(fmt::format("a collective of rank {} of {} failed: {}: {}", rank(), size(),
                            ncclGetErrorString(state), ncclGetLastError(comm_)));
}

// ---- collectives

void NcclCommunicator::all_reduce_sum(Stream s, View data) {
    const ncclDataType_t type = sum_type(data.dtype());
    if (alone() || data.elements() == 0)
        return;
    ++traffic_.all_reduce_calls;
    traffic_.all_reduce_bytes += std::int64_t(data.bytes());
    NCCL_CHECK(ncclAllReduce(data.data(), data.data(), std::size_t(data.elements()), type, ncclSum,
                             comm(), stream(s)));
}

void NcclCommunicator::all_gather(Stream s, View part, std::span<const std::int64_t> elements,
                                  View out) {
    const GatherParts parts = check_gather(*this, part, elements, out);
    if (parts.total == 0)
        return;
    if (alone()) {
        if (part.data() != out.data())
            CUDA_CHECK(cudaMemcpyAsync(out.data(), part.data(), part.bytes(),
                                       cudaMemcpyDeviceToDevice, stream(s)));
        return;
    }
    count_other(bytes_of(out.dtype(), parts.mine));

    const bool all_alike = std::all_of(elements.begin(), elements.end(),
                                       [&](std::int64_t n) { return n == parts.mine; });
    if (all_alike)
        NCCL_CHECK(
            ncclAllGather(part.data(), out.data(), part.bytes(), ncclUint8, comm(), stream(s)));
    else
        gather_uneven(s, part, elements, out);
}

// NCCL gathers parts of one length only, so each rank sends its own to all, all at once.
void NcclCommunicator::gather_uneven(Stream s, View part, std::span<const std::int64_t> elements,
                                     View out) {
    ncclComm_t all = comm();
    auto* to = static_cast<std::byte*>(out.data());
    NCCL_CHECK(ncclGroupStart());
    ncclResult_t result = ncclSuccess;
    for (int r = 0; r < size() && (result == ncclSuccess || result == ncclInProgress); ++r) {
        const std::size_t bytes = bytes_of(out.dtype(), elements[std::size_t(r)]);
        const void* from = r == rank() ? part.data() : to;
        if (bytes > 0)
            result = ncclBroadcast(from, to, bytes, ncclUint8, r, all, stream(s));
        to += bytes;
    }
    const ncclResult_t end = ncclGroupEnd();  // a group is ended whatever went wrong in it
    settle(result, {"ncclBroadcast", __LINE__});
    settle(end, {"ncclGroupEnd()", __LINE__});
}

void NcclCommunicator::broadcast(Stream s, View data, int root) {
    CAKE_CHECK(root >= 0 && root < size(), "root {} of {} ranks", root, size());
    if (alone() || data.bytes() == 0)
        return;
    count_other(data.bytes());
    NCCL_CHECK(
        ncclBroadcast(data.data(), data.data(), data.bytes(), ncclUint8, root, comm(), stream(s)));
}

Communicator::Traffic NcclCommunicator::traffic() const {
    Traffic all = host_->traffic();
    all += traffic_;
    return all;
}

// ---- symmetric memory

Buffer NcclCommunicator::symmetric_memory(std::size_t bytes) {
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
    if (alone() || bytes == 0 || library_version() < NCCL_VERSION(2, 27, 0))
        return {};
    ncclComm_t all = comm();
    Window w{};
    NCCL_CHECK(ncclMemAlloc(&w.memory, bytes));
    // From 2.28 on it says that it is done where it has just begun.
    const ncclResult_t begun =
        ncclCommWindowRegister(all, w.memory, bytes, &w.window, NCCL_WIN_COLL_SYMMETRIC);
    settle(begun == ncclSuccess ? ncclInProgress : begun, {"ncclCommWindowRegister", __LINE__});
    if (!w.window) {  // on no rank then: GPUs here cannot reach each other's memory
        NCCL_CHECK(ncclMemFree(w.memory));
        return {};
    }
    windows_.push_back(w);
    return Buffer(w.memory, bytes, Place::Device, nullptr);
#else
    (void)bytes;
    return {};
#endif
}

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host,
                                                     NcclDevice device) {
    return std::make_unique<NcclCommunicator>(std::move(host), std::move(device));
}

Buffer nccl_symmetric_memory(Communicator& comm, std::size_t bytes) {
    auto* nccl = dynamic_cast<NcclCommunicator*>(&comm);
    return nccl ? nccl->symmetric_memory(bytes) : Buffer();
}

std::string nccl_version() {
    const int version = library_version();
    return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

bool nccl_shares_gpus() {
    const char* value = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");
    return library_version() >= NCCL_VERSION(2, 30, 0) && value && std::string_view(value) == "1";
}

}  // namespace cake
