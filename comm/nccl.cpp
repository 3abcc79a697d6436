#include "comm/nccl.h"

#include <algorithm>
#include <deque>
#include <exception>
#include <future>
#include <map>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include <cuda_runtime.h>
#include <nccl.h>
#include <spdlog/spdlog.h>

#include "comm/gather_parts.h"
#include "comm/nccl_gpus.h"

static_assert(NCCL_VERSION_CODE >= NCCL_VERSION(2, 19, 0), "ncclMemAlloc came with NCCL 2.19");

namespace cake {
namespace {

using Clock = std::chrono::steady_clock;

// Where a call stands in this file, for messages.
struct Call {
    const char* text;
    int line;
};

void copy(View to, View from, cudaStream_t stream) {
    const cudaError_t error =
        cudaMemcpyAsync(to.data(), from.data(), from.bytes(), cudaMemcpyDeviceToDevice, stream);
    if (error != cudaSuccess)
        throw Error(fmt::format("cudaMemcpyAsync: {} (nccl.cpp)", cudaGetErrorString(error)));
}

void log_failure(ncclResult_t result, const char* call) {
    if (result != ncclSuccess && result != ncclInProgress)
        spdlog::error("{}: {}", call, ncclGetErrorString(result));
}

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

    Buffer symmetric_memory(std::span<const Stream> streams, std::size_t bytes);

private:
    void check();
    bool alone() const { return size() == 1; }
    cudaStream_t stream(Stream s) const { return device_.cuda_stream(s); }
    ncclComm_t comm(Stream s);
    Communicator& host() {
        check();
        return *host_;
    }
    void count_other(std::size_t bytes) {
        ++traffic_.other_calls;
        traffic_.other_bytes += std::int64_t(bytes);
    }

    void gather_uneven(Stream s, View part, std::span<const std::int64_t> elements, View out);
    std::optional<ncclResult_t> outcome(ncclResult_t result, ncclComm_t comm,
                                        Clock::time_point until) const;
    void settle(ncclResult_t result, ncclComm_t comm, Call call);
    [[noreturn]] void give_up(const std::string& why);
    void abort_all();
    void end(ncclComm_t comm) const;

    std::unique_ptr<Communicator> host_;
    std::unique_ptr<Communicator> starter_;  // as host_, for what is no traffic of the model's
    NcclDevice device_;
    std::map<int, ncclComm_t> comms_;  // by stream; null: given up. NCCL knows where they lie
    std::string failure_;              // why they were given up
    std::vector<std::future<void>> aborting_;
    std::shared_ptr<void> watch_;  // lets check() be called while the host waits
    Traffic traffic_;              // of what went through NCCL
    int exceptions_ = std::uncaught_exceptions();
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
    struct Window {
        int stream;
        ncclWindow_t window;
    };
    std::deque<Window> windows_;  // NCCL knows where they lie
    std::vector<void*> memory_;   // of windows
#endif
};

// `call` is one of NCCL's, of a communicator or of none: returns when NCCL has put it into the stream, throws with the call
// and NCCL's words.
#define NCCL_CHECK(comm, call) settle((call), (comm), {#call, __LINE__})

NcclCommunicator::NcclCommunicator(std::unique_ptr<Communicator> host, NcclDevice device)
    : host_(std::move(host)), device_(std::move(device)) {
    if (alone())
        return;
    starter_ = host_->split(0);
    refuse_shared_gpus(starter_->gather_strings(place_of_gpu()));
    comm(Stream{});
    if (device_.while_waiting)
        watch_ = device_.while_waiting([this] { check(); });
}

// Collective where it starts one: ranks put their collectives into the same streams.
ncclComm_t NcclCommunicator::comm(Stream s) {
    check();
    ncclComm_t& comm = comms_[s.index];
    if (comm)
        return comm;

    ncclUniqueId id{};
    if (rank() == 0)
        NCCL_CHECK(nullptr, ncclGetUniqueId(&id));
    starter_->broadcast_bytes(std::as_writable_bytes(std::span(&id, 1)), 0);

    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    const ncclResult_t result = ncclCommInitRankConfig(&comm, size(), id, rank(), &config);
    settle(result, comm, {"ncclCommInitRankConfig", __LINE__});
    return comm;
}

NcclCommunicator::~NcclCommunicator() {
    if (std::uncaught_exceptions() > exceptions_)  // the other ranks may be anywhere
        abort_all();
    aborting_.clear();  // waits for them
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
    for (const Window& w : windows_)
        if (ncclComm_t comm = comms_[w.stream]; comm && w.window)
            log_failure(ncclCommWindowDeregister(comm, w.window), "ncclCommWindowDeregister");
    for (void* memory : memory_)
        log_failure(ncclMemFree(memory), "ncclMemFree");
#endif
    for (const auto& [stream, comm] : comms_)
        if (comm)
            end(comm);
}

void NcclCommunicator::end(ncclComm_t comm) const {
    const auto result = outcome(ncclCommFinalize(comm), comm, Clock::now() + device_.start_within);
    if (result == ncclSuccess) {
        log_failure(ncclCommDestroy(comm), "ncclCommDestroy");
    } else {
        spdlog::error("ncclCommFinalize: {}", result ? ncclGetErrorString(*result) : "no end");
        log_failure(ncclCommAbort(comm), "ncclCommAbort");
    }
}

// Each stops at once what is under way, and then waits for captured graphs: they go with what is thrown here.
void NcclCommunicator::abort_all() {
    for (auto& [stream, comm] : comms_) {
        if (!comm)
            continue;
        const auto abort = [comm = std::exchange(comm, nullptr)] {
            log_failure(ncclCommAbort(comm), "ncclCommAbort");
        };
        try {
            aborting_.push_back(std::async(std::launch::async, abort));
        } catch (const std::system_error&) {  // no thread to be had
            abort();
        }
    }
}

// ---- what NCCL answers

// How a call of `comm` ended whose first answer was `result`; nothing where it has not until then.
std::optional<ncclResult_t> NcclCommunicator::outcome(ncclResult_t result, ncclComm_t comm,
                                                      Clock::time_point until) const {
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
        const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
        result = asked == ncclSuccess ? state : asked;
    }
    return result;
}

void NcclCommunicator::settle(ncclResult_t result, ncclComm_t comm, Call call) {
    const auto end = outcome(result, comm, Clock::now() + device_.start_within);
    if (end == ncclSuccess)
        return;
    const std::string place = fmt::format("{} (nccl.cpp:{})", call.text, call.line);
    if (!end)
        give_up(
            fmt::format("{}: not done after {} s; NCCL_DEBUG=INFO shows what NCCL waits for, and "
                        "--share-gpu does without it",
                        place, std::chrono::duration<double>(device_.start_within).count()));
    give_up(fmt::format("{}: {}: {}", place, ncclGetErrorString(*end), ncclGetLastError(comm)));
}

void NcclCommunicator::give_up(const std::string& why) {
    failure_ = why;
    abort_all();
    for (const auto& aborting : aborting_)
        aborting.wait_for(std::chrono::seconds(1));
    throw Error(failure_);
}

void NcclCommunicator::check() {
    if (!failure_.empty())
        throw Error(failure_);
    for (const auto& [stream, comm] : comms_) {
        if (!comm)
            continue;
        ncclResult_t state = ncclSuccess;
        NCCL_CHECK(comm, ncclCommGetAsyncError(comm, &state));
        if (state != ncclSuccess && state != ncclInProgress)
            give_up(fmt::format("a collective of rank {} of {} failed: {}: {}", rank(), size(),
                                ncclGetErrorString(state), ncclGetLastError(comm)));
    }
}

// ---- collectives

void NcclCommunicator::all_reduce_sum(Stream s, View data) {
    const ncclDataType_t type = sum_type(data.dtype());
    if (alone() || data.elements() == 0)
        return;
    ++traffic_.all_reduce_calls;
    traffic_.all_reduce_bytes += std::int64_t(data.bytes());
    ncclComm_t all = comm(s);
    NCCL_CHECK(all, ncclAllReduce(data.data(), data.data(), std::size_t(data.elements()), type,
                                  ncclSum, all, stream(s)));
}

void NcclCommunicator::all_gather(Stream s, View part, std::span<const std::int64_t> elements,
                                  View out) {
    const GatherParts parts = check_gather(*this, part, elements, out);
    if (parts.total == 0)
        return;
    if (alone()) {
        if (part.data() != out.data())
            copy(out, part, stream(s));
        return;
    }
    count_other(bytes_of(out.dtype(), parts.mine));

    const bool all_alike = std::all_of(elements.begin(), elements.end(),
                                       [&](std::int64_t n) { return n == parts.mine; });
    if (!all_alike)
        return gather_uneven(s, part, elements, out);
    ncclComm_t all = comm(s);
    NCCL_CHECK(all,
               ncclAllGather(part.data(), out.data(), part.bytes(), ncclUint8, all, stream(s)));
}

// NCCL gathers parts of one length only, so each rank sends its own to all, all at once.
void NcclCommunicator::gather_uneven(Stream s, View part, std::span<const std::int64_t> elements,
                                     View out) {
    ncclComm_t all = comm(s);
    auto* to = static_cast<std::byte*>(out.data());
    NCCL_CHECK(nullptr, ncclGroupStart());
    ncclResult_t result = ncclSuccess;
    for (int r = 0; r < size() && (result == ncclSuccess || result == ncclInProgress); ++r) {
        const std::size_t bytes = bytes_of(out.dtype(), elements[std::size_t(r)]);
        const void* from = r == rank() ? part.data() : to;
        if (bytes > 0)
            result = ncclBroadcast(from, to, bytes, ncclUint8, r, all, stream(s));
        to += bytes;
    }
    const ncclResult_t end = ncclGroupEnd();  // a group is ended whatever went wrong in it
    settle(result, all, {"ncclBroadcast", __LINE__});
    settle(end, all, {"ncclGroupEnd()", __LINE__});
}

void NcclCommunicator::broadcast(Stream s, View data, int root) {
    CAKE_CHECK(root >= 0 && root < size(), "root {} of {} ranks", root, size());
    if (alone() || data.bytes() == 0)
        return;
    count_other(data.bytes());
    ncclComm_t all = comm(s);
    NCCL_CHECK(all, ncclBroadcast(data.data(), data.data(), data.bytes(), ncclUint8, root, all,
                                  stream(s)));
}

Communicator::Traffic NcclCommunicator::traffic() const {
    Traffic all = host_->traffic();
    all += traffic_;
    return all;
}

// ---- symmetric memory

Buffer NcclCommunicator::symmetric_memory(std::span<const Stream> streams, std::size_t bytes) {
    if (alone())
        return {};
    for (const Stream s : streams)
        comm(s);
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
    if (bytes == 0 || nccl_version_code() < NCCL_VERSION(2, 27, 0))
        return {};
    void* memory = nullptr;
    NCCL_CHECK(nullptr, ncclMemAlloc(&memory, bytes));
    memory_.push_back(memory);
    for (const Stream s : streams) {
        ncclComm_t all = comm(s);
        Window& w = windows_.emplace_back(s.index, nullptr);
        // From 2.28 on it says that it is done where it has just begun.
        const ncclResult_t begun =
            ncclCommWindowRegister(all, memory, bytes, &w.window, NCCL_WIN_COLL_SYMMETRIC);
        settle(begun == ncclSuccess ? ncclInProgress : begun, all,
               {"ncclCommWindowRegister", __LINE__});
        if (!w.window)  // on no rank then: GPUs here cannot reach each other's memory
            return {};
    }
    return Buffer(memory, bytes, Place::Device, nullptr);
#else
    return {};
#endif
}

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(std::unique_ptr<Communicator> host,
                                                     NcclDevice device) {
    return std::make_unique<NcclCommunicator>(std::move(host), std::move(device));
}

Buffer nccl_symmetric_memory(Communicator& comm, std::span<const Stream> streams,
                             std::size_t bytes) {
    auto* nccl = dynamic_cast<NcclCommunicator*>(&comm);
    return nccl ? nccl->symmetric_memory(streams, bytes) : Buffer();
}

}  // namespace cake
