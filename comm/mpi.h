// Ranks as processes, over MPI. Data are in host memory. Only for files of comm/ and its tests: it includes mpi.h.
#pragma once

#include <climits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <mpi.h>

#include "comm/communicator.h"

namespace cake {

class MpiCommunicator final : public Communicator {
public:
    // Takes over `comm` and frees it at the end. MPI counts are ints: longer messages are cut at `max_count` (tests
    // make it small).
    explicit MpiCommunicator(MPI_Comm comm, std::int64_t max_count = INT_MAX);
    ~MpiCommunicator() override;
    MpiCommunicator(const MpiCommunicator&) = delete;
    MpiCommunicator& operator=(const MpiCommunicator&) = delete;

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    std::string name() const override { return "mpi"; }
    void all_reduce_sum(Stream s, View data) override;
    void all_gather(Stream s, View part, std::span<const std::int64_t> elements, View out) override;
    void broadcast(Stream s, View data, int root) override;
    void sum(std::span<double> values) override;
    void broadcast_bytes(std::span<std::byte> bytes, int root) override;
    std::vector<std::string> gather_strings(const std::string& mine) override;
    void barrier() override;
    std::unique_ptr<Communicator> split(int color) override;
    Traffic traffic() const override { return traffic_; }

private:
    template <typename T>
    void sum_blocks(std::span<T> data);
    template <typename T>
    void sum_short(std::span<T> data);
    template <typename T>
    void sum_long(std::span<T> data);
    // What `scratch_` holds as n elements of T, grown where it is too small.
    template <typename T>
    T* scratch(std::int64_t n);

    // `mine`, of bytes[rank] bytes, and everybody else's, into `out`, in rank order.
    void gather_bytes(const std::byte* mine, std::span<const std::int64_t> bytes, std::byte* out);
    void send_to_all(std::byte* data, std::int64_t bytes, int root);
    bool alone() const { return size_ == 1; }

    MPI_Comm comm_;
    std::int64_t max_count_;
    int rank_ = 0;
    int size_ = 1;
    Traffic traffic_;
    std::vector<std::byte> scratch_;
    std::vector<int> counts_, starts_;  // of the pieces of a sum, or the parts of a gather
    std::vector<int> piece_counts_, piece_starts_;  // of the ranks' copies of this rank's piece
};

}  // namespace cake
