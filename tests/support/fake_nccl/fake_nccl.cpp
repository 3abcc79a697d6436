#include "support/fake_nccl/fake_nccl.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>

#include <cuda_runtime.h>
#include <nccl.h>

#include "base/error.h"
#include "comm/rank_order_sum.h"

namespace {

using namespace cake;

// One rank's part in something that all ranks do together.
struct Operation {
    std::string name;
    const void* from = nullptr;
    void* to = nullptr;
    std::size_t count = 0;
    ncclDataType_t type = ncclUint8;
    int root = 0;
    ncclWindow_t* window = nullptr;
    ncclComm_t comm = nullptr;
};
using Group = std::vector<Operation>;  // between ncclGroupStart and ncclGroupEnd, or alone

// Ranks that started with the same unique id.
struct Ranks {
    explicit Ranks(int size) : posted(std::size_t(size)) {}
    std::vector<std::deque<Group>> posted;  // by rank: not run yet
    int joined = 0;
    bool differ = false;  // their calls did: NCCL would hang, or send nonsense
    bool aborted = false;
};

std::mutex mutex;                 // of all below
std::condition_variable changed;  // what ranks have posted, or that one gave up
FakeNccl fake;
std::map<int, std::weak_ptr<Ranks>> all_ranks;  // by unique id
std::set<int> under_way;                        // GPUs that are in a collective, by index

thread_local int device = 0;
thread_local int group_depth = 0;
thread_local Group group;
thread_local ncclComm_t group_comm = nullptr;
thread_local cudaStream_t group_stream = nullptr;

}  // namespace

struct ncclComm {
    std::shared_ptr<Ranks> ranks;
    int rank = 0;
    int gpu = 0;
    bool finalized = false;
    int windows = 0;
    std::optional<cudaStream_t> stream = {};  // that its collectives are in

    std::size_t size() const { return ranks->posted.size(); }
    ncclResult_t state() const {
        if (fake.network_fails)
            return ncclRemoteError;
        if (ranks->differ)
            return ncclInvalidUsage;
        const bool started = fake.starts && ranks->joined == int(size());
        return started && ranks->posted[std::size_t(rank)].empty() ? ncclSuccess : ncclInProgress;
    }
};

namespace {

template <typename T>
void add(std::span<const Operation* const> ops) {
    std::vector<const T*> parts;
    for (const Operation* op : ops)
        parts.push_back(static_cast<const T*>(op->from));
    std::vector<T> sum(ops[0]->count);
    add_in_rank_order<T>(parts, std::int64_t(sum.size()), sum.data());
    for (const Operation* op : ops)
        std::memcpy(op->to, sum.data(), sum.size() * sizeof(T));
}

// `ops`: the same operation by rank.
void run(std::span<const Operation* const> ops) {
    const Operation& first = *ops[0];
    fake.calls.push_back(first.name);
    if (first.name == "AllReduce" && first.type == ncclFloat32)
        return add<float>(ops);
    if (first.name == "AllReduce")
        return add<bf16>(ops);
    if (first.name == "WindowRegister") {
        for (const Operation* op : ops)
            if (fake.has_symmetric_memory) {
                *op->window = reinterpret_cast<ncclWindow_t>(op->to);
                ++fake.windows;
                ++op->comm->windows;
            }
        return;
    }
    std::vector<std::byte> all;  // AllGather of bytes; Broadcast: the root's
    for (std::size_t r = 0; r < ops.size(); ++r) {
        const auto* bytes = static_cast<const std::byte*>(ops[r]->from);
        if (first.name == "AllGather" || int(r) == first.root)
            all.insert(all.end(), bytes, bytes + ops[r]->count);
    }
    for (const Operation* op : ops)
        std::memcpy(op->to, all.data(), all.size());
}

bool are_alike(const Operation& a, const Operation& b) {
    return a.name == b.name && a.count == b.count && a.type == b.type && a.root == b.root;
}

// Runs what all ranks have posted.
void run_ready(Ranks& ranks) {
    while (std::none_of(ranks.posted.begin(), ranks.posted.end(),
                        [](const auto& queue) { return queue.empty(); })) {
        const std::size_t n = ranks.posted[0].front().size();
        for (std::size_t i = 0; i < n; ++i) {
            std::vector<const Operation*> ops;
            for (const auto& queue : ranks.posted) {
                const Group& theirs = queue.front();
                ranks.differ =
                    theirs.size() != n || !are_alike(theirs[i], ranks.posted[0].front()[i]);
                if (ranks.differ)
                    return;
                ops.push_back(&theirs[i]);
            }
            run(ops);
        }
        for (auto& queue : ranks.posted)
            queue.pop_front();
    }
}

// With the mutex held.
void join(const ncclComm& comm, Group operations) {
    comm.ranks->posted[std::size_t(comm.rank)].push_back(std::move(operations));
    run_ready(*comm.ranks);
    changed.notify_all();
}

// In a stream. An error is what comm's state() is from then on, but where nothing else would tell.
void join_and_wait(const ncclComm& comm, const Group& operations) {
    std::unique_lock lock(mutex);
    CAKE_CHECK(under_way.insert(comm.gpu).second, "{} on GPU {} beside another collective",
               operations.front().name, comm.gpu);
    join(comm, operations);
    const bool over = changed.wait_for(lock, std::chrono::minutes(1), [&] {
        return comm.state() != ncclInProgress || comm.ranks->aborted;
    });
    under_way.erase(comm.gpu);
    CAKE_CHECK(over && comm.state() != ncclInProgress, "rank {} waits in {} for ranks that {}",
               comm.rank, operations.front().name, over ? "gave up" : "do not come");
}

ncclResult_t post(ncclComm_t comm, Group operations, cudaStream_t stream) {
    std::unique_lock lock(mutex);
    if (comm->state() == ncclInProgress)
        return ncclInvalidArgument;  // used before the last call was over
    if (comm->state() != ncclSuccess)
        return comm->state();
    if (!operations.front().window && comm->stream.value_or(stream) != stream)
        return ncclInvalidUsage;  // NCCL takes it, and makes one stream wait for the other
    if (!operations.front().window)
        comm->stream = stream;
    if (const auto put = fake.put) {
        lock.unlock();
        put(stream, [comm, all = std::move(operations)] { join_and_wait(*comm, all); });
        return ncclSuccess;
    }
    join(*comm, std::move(operations));
    return ncclInProgress;
}

ncclResult_t enqueue(ncclComm_t comm, cudaStream_t stream, Operation operation) {
    if (group_depth == 0)
        return post(comm, {std::move(operation)}, stream);
    group_comm = comm;
    group_stream = stream;
    group.push_back(std::move(operation));
    return ncclInProgress;  // NCCL may say either
}

}  // namespace

FakeNccl cake::fake_nccl() {
    const std::lock_guard lock(mutex);
    return fake;
}

void cake::change_fake_nccl(const std::function<void(FakeNccl&)>& change) {
    const std::lock_guard lock(mutex);
    change(fake);
    changed.notify_all();
}

// ---- NCCL ----------------------------------------------------------------------------------------------------------------

ncclResult_t ncclGetVersion(int* version) {
    const std::lock_guard lock(mutex);
    *version = fake.version;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    const std::lock_guard lock(mutex);
    const int number = ++fake.unique_ids;
    std::memcpy(id, &number, sizeof(number));
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
    const std::lock_guard lock(mutex);
    if (config->blocking != 0)
        return ncclInvalidUsage;
    int number = 0;
    std::memcpy(&number, &id, sizeof(number));
    std::shared_ptr<Ranks> ranks = all_ranks[number].lock();
    if (!ranks)
        all_ranks[number] = ranks = std::make_shared<Ranks>(size);
    ++ranks->joined;
    ++fake.communicators;
    *comm = new ncclComm{ranks, rank, device};
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
    const std::lock_guard lock(mutex);
    *state = comm->state();
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
    const std::lock_guard lock(mutex);
    comm->finalized = true;
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    const std::lock_guard lock(mutex);
    const bool finalized = comm->finalized;
    --fake.communicators;
    delete comm;
    return finalized ? ncclSuccess : ncclInvalidUsage;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
    std::unique_lock lock(mutex);
    ++fake.aborted;
    comm->ranks->aborted = true;
    changed.notify_all();
    changed.wait(lock, [] { return fake.graphs == 0; });
    --fake.communicators;
    fake.windows -= comm->windows;
    delete comm;
    return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
    return result == ncclRemoteError ? "remote error" : "some error";
}
const char* ncclGetLastError(ncclComm_t) { return "last words"; }

ncclResult_t ncclGroupStart() {
    ++group_depth;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
    if (--group_depth > 0 || group.empty())
        return ncclSuccess;
    return post(group_comm, std::exchange(group, {}), group_stream);
}

ncclResult_t ncclAllReduce(const void* from, void* to, std::size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
    if (op != ncclSum || (type != ncclFloat32 && type != ncclBfloat16))
        return ncclInvalidArgument;  // NCCL has more, this has not
    return enqueue(comm, stream,
                   {.name = "AllReduce", .from = from, .to = to, .count = count, .type = type});
}

ncclResult_t ncclAllGather(const void* from, void* to, std::size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
    return enqueue(comm, stream,
                   {.name = "AllGather", .from = from, .to = to, .count = count, .type = type});
}

ncclResult_t ncclBroadcast(const void* from, void* to, std::size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
    return enqueue(
        comm, stream,
        {.name = "Broadcast", .from = from, .to = to, .count = count, .type = type, .root = root});
}

ncclResult_t ncclMemAlloc(void** memory, std::size_t bytes) {
    const std::lock_guard lock(mutex);
    ++fake.allocations;
    *memory = std::malloc(bytes);
    return ncclSuccess;
}

ncclResult_t ncclMemFree(void* memory) {
    const std::lock_guard lock(mutex);
    --fake.allocations;
    std::free(memory);
    return ncclSuccess;
}

ncclResult_t ncclCommWindowRegister(ncclComm_t comm, void* memory, std::size_t bytes,
                                    ncclWindow_t* window, int) {
    const ncclResult_t begun = enqueue(
        comm, nullptr,
        {.name = "WindowRegister", .to = memory, .count = bytes, .window = window, .comm = comm});
    return begun == ncclInProgress ? ncclSuccess : begun;  // so do NCCL 2.28 to 2.30
}

ncclResult_t ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t) {
    const std::lock_guard lock(mutex);
    --fake.windows;
    --comm->windows;
    return ncclSuccess;
}

// ---- CUDA ----------------------------------------------------------------------------------------------------------------

void cake::use_fake_gpu(int index) { device = index; }

cudaError_t cudaGetDevice(int* index) {
    *index = device;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int index) {
    const std::lock_guard lock(mutex);
    std::strncpy(text, fake.gpus.at(std::size_t(index)).c_str(), std::size_t(length) - 1);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
    const auto copy = [=] { std::memmove(to, from, bytes); };
    if (const auto put = fake_nccl().put)
        put(stream, copy);
    else
        copy();
    return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t) { return "some error of CUDA"; }
