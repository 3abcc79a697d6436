#include "comm/mpi.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include <spdlog/spdlog.h>

#include "base/log.h"
#include "comm/gather_parts.h"
#include "comm/mpi_check.h"
#include "comm/rank_order_sum.h"

namespace cake {

void detail::mpi_check(int code, const char* call, const char* file, int line) {
    if (code == MPI_SUCCESS)
        return;
    char words[MPI_MAX_ERROR_STRING] = "unknown MPI error";
    int length = 0;
    MPI_Error_string(code, words, &length);
    int rank = -1;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    const char* slash = std::strrchr(file, '/');
    throw Error(fmt::format("rank {} on {}: {}: {} ({}:{})", rank, host_name(), call, words,
                            slash ? slash + 1 : file, line));
}

namespace {

template <typename T>
MPI_Datatype mpi_type();
template <>
MPI_Datatype mpi_type<float>() {
    return MPI_FLOAT;
}
template <>
MPI_Datatype mpi_type<bf16>() {
    return MPI_UINT16_T;  // carried, never added by MPI
}

// A sum goes in blocks of this many elements, which bounds the scratch at about as many.
constexpr std::int64_t kSumBlock = std::int64_t(1) << 20;

// Up to this length a message is gathered whole by everybody: one round, where the pieces of a long one take two.
constexpr std::int64_t kShortBytes = 16 << 10;

}  // namespace

MpiCommunicator::MpiCommunicator(MPI_Comm comm, std::int64_t max_count)
    : comm_(comm), max_count_(max_count) {
    MPI_CHECK(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
    MPI_CHECK(MPI_Comm_rank(comm_, &rank_));
    MPI_CHECK(MPI_Comm_size(comm_, &size_));
    for (auto* ints : {&counts_, &starts_, &piece_counts_, &piece_starts_})
        ints->resize(std::size_t(size_));
}

MpiCommunicator::~MpiCommunicator() {
    int over = 0;
    MPI_Finalized(&over);  // a group that outlives World went with MPI
    if (!over && MPI_Comm_free(&comm_) != MPI_SUCCESS)
        spdlog::error("MPI_Comm_free failed on rank {}", rank_);
}

// ---- sums ------------------------------------------------------------------------------------------------------------

void MpiCommunicator::all_reduce_sum(Stream, View data) {
    CAKE_CHECK(data.dtype() == DType::F32 || data.dtype() == DType::BF16,
               "all_reduce_sum takes f32 or bf16, not {}", cake::name(data.dtype()));
    if (alone() || data.elements() == 0)
        return;
    ++traffic_.all_reduce_calls;
    traffic_.all_reduce_bytes += std::int64_t(data.bytes());
    if (data.dtype() == DType::F32)
        sum_blocks(data.span<float>());
    else
        sum_blocks(data.span<bf16>());
}

template <typename T>
void MpiCommunicator::sum_blocks(std::span<T> data) {
    const auto block = std::size_t(std::min(kSumBlock, max_count_));
    while (!data.empty()) {
        const std::span<T> now = data.first(std::min(block, data.size()));
        if (std::is_same_v<T, float> &&
            size_ == 2)  // a + b is b + a: any algorithm gives rank order
            MPI_CHECK(MPI_Allreduce(MPI_IN_PLACE, now.data(), int(now.size()), MPI_FLOAT, MPI_SUM,
                                    comm_));
        else if (std::int64_t(now.size_bytes()) <= kShortBytes)
            sum_short(now);
        else
            sum_long(now);
        data = data.subspan(now.size());
    }
}

template <typename T>
T* MpiCommunicator::scratch(std::int64_t n) {
    const std::size_t bytes = std::size_t(n) * sizeof(T);
    if (scratch_.size() < bytes)
        scratch_.resize(bytes);
    return reinterpret_cast<T*>(scratch_.data());
}

// Everybody gathers everybody's message and adds.
template <typename T>
void MpiCommunicator::sum_short(std::span<T> data) {
    const auto n = std::int64_t(data.size());
    T* all = scratch<T>(size_ * n);  // [ranks, n]
    MPI_CHECK(MPI_Allgather(data.data(), int(n), mpi_type<T>(), all, int(n), mpi_type<T>(), comm_));
    std::vector<const T*> parts;
    for (int r = 0; r < size_; ++r)
        parts.push_back(all + r * n);
    add_in_rank_order<T>(parts, n, data.data());
}

// Each rank adds one piece of all messages, then the sums are gathered. A rank sends and receives 2 (R-1) / R of the
// message, the least that an all-reduce can do.
template <typename T>
void MpiCommunicator::sum_long(std::span<T> data) {
    const auto n = std::int64_t(data.size());
    for (int r = 0; r < size_; ++r) {
        starts_[r] = int(n * r / size_);
        counts_[r] = int(n * (r + 1) / size_) - starts_[r];
    }
    const int mine = counts_[rank_];
    for (int r = 0; r < size_; ++r) {
        piece_counts_[r] = mine;
        piece_starts_[r] = r * mine;
    }
    T* pieces = scratch<T>(std::int64_t(size_) * mine);  // [ranks, mine]
    MPI_CHECK(MPI_Alltoallv(data.data(), counts_.data(), starts_.data(), mpi_type<T>(), pieces,
                            piece_counts_.data(), piece_starts_.data(), mpi_type<T>(), comm_));
    std::vector<const T*> parts;
    for (int r = 0; r < size_; ++r)
        parts.push_back(pieces + piece_starts_[r]);
    add_in_rank_order<T>(parts, mine, data.data() + starts_[rank_]);
    MPI_CHECK(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data.data(), counts_.data(),
                             starts_.data(), mpi_type<T>(), comm_));
}

void MpiCommunicator::sum(std::span<double> values) {
    if (alone() || values.empty())
        return;
    traffic_.statistics_bytes += std::int64_t(values.size_bytes());
    const std::size_t n = values.size();
    std::vector<double> all(std::size_t(size_) * n);  // [ranks, n]
    MPI_CHECK(
        MPI_Allgather(values.data(), int(n), MPI_DOUBLE, all.data(), int(n), MPI_DOUBLE, comm_));
    std::copy_n(all.begin(), n, values.begin());
    for (int r = 1; r < size_; ++r)
        for (std::size_t i = 0; i < n; ++i)
            values[i] += all[std::size_t(r) * n + i];
}

// ---- gather and broadcast --------------------------------------------------------------------------------------------

void MpiCommunicator::all_gather(Stream, View part, std::span<const std::int64_t> elements,
                                 View out) {
    if (check_gather(*this, part, elements, out).total == 0)
        return;
    std::vector<std::int64_t> bytes;
    for (std::int64_t n : elements)
        bytes.push_back(std::int64_t(bytes_of(out.dtype(), n)));
    if (!alone()) {
        ++traffic_.other_calls;
        traffic_.other_bytes += bytes[rank_];
    }
    gather_bytes(static_cast<const std::byte*>(part.data()), bytes,
                 static_cast<std::byte*>(out.data()));
}

void MpiCommunicator::gather_bytes(const std::byte* mine, std::span<const std::int64_t> bytes,
                                   std::byte* out) {
    const std::int64_t total = std::accumulate(bytes.begin(), bytes.end(), std::int64_t(0));
    const std::int64_t before =
        std::accumulate(bytes.begin(), bytes.begin() + rank_, std::int64_t(0));
    // MPI wants to be told when a part is in its place already.
    if (bytes[rank_] > 0 && out + before != mine)
        std::memcpy(out + before, mine, std::size_t(bytes[rank_]));
    if (alone())
        return;

    if (total <= max_count_) {
        for (int r = 0, start = 0; r < size_; start += counts_[r++]) {
            counts_[r] = int(bytes[r]);
            starts_[r] = start;
        }
        MPI_CHECK(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, out, counts_.data(),
                                 starts_.data(), MPI_BYTE, comm_));
        return;
    }
    // Starts beyond an int: rank after rank.
    for (int r = 0; r < size_; out += bytes[r++])
        send_to_all(out, bytes[r], r);
}

void MpiCommunicator::broadcast(Stream, View data, int root) {
    broadcast_bytes({static_cast<std::byte*>(data.data()), data.bytes()}, root);
}

void MpiCommunicator::broadcast_bytes(std::span<std::byte> bytes, int root) {
    CAKE_CHECK(root >= 0 && root < size_, "root {} of {} ranks", root, size_);
    if (alone() || bytes.empty())
        return;
    ++traffic_.other_calls;
    traffic_.other_bytes += std::int64_t(bytes.size());
    send_to_all(bytes.data(), std::int64_t(bytes.size()), root);
}

void MpiCommunicator::send_to_all(std::byte* data, std::int64_t bytes, int root) {
    for (std::int64_t done = 0; done < bytes; done += max_count_) {
        const int count = int(std::min(max_count_, bytes - done));
        MPI_CHECK(MPI_Bcast(data + done, count, MPI_BYTE, root, comm_));
    }
}

std::vector<std::string> MpiCommunicator::gather_strings(const std::string& mine) {
    if (alone())
        return {mine};
    ++traffic_.other_calls;
    traffic_.other_bytes += std::int64_t(mine.size());

    const auto length = std::int64_t(mine.size());
    std::vector<std::int64_t> lengths(std::size_t(size_), 0);
    MPI_CHECK(MPI_Allgather(&length, 1, MPI_INT64_T, lengths.data(), 1, MPI_INT64_T, comm_));
    std::string all(std::size_t(std::accumulate(lengths.begin(), lengths.end(), std::int64_t(0))),
                    '\0');
    gather_bytes(reinterpret_cast<const std::byte*>(mine.data()), lengths,
                 reinterpret_cast<std::byte*>(all.data()));

    std::vector<std::string> strings;
    std::size_t start = 0;
    for (std::int64_t n : lengths) {
        strings.push_back(all.substr(start, std::size_t(n)));
        start += std::size_t(n);
    }
    return strings;
}

void MpiCommunicator::barrier() {
    if (alone())
        return;
    ++traffic_.other_calls;
    MPI_CHECK(MPI_Barrier(comm_));
}

std::unique_ptr<Communicator> MpiCommunicator::split(int color) {
    CAKE_CHECK(color >= 0, "colour {} of a group", color);
    MPI_Comm group = MPI_COMM_NULL;
    MPI_CHECK(MPI_Comm_split(comm_, color, rank_, &group));
    return std::make_unique<MpiCommunicator>(group, max_count_);
}

}  // namespace cake
