// How ranks speak. One group of ranks that share a model, or a part of them.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/stream.h"
#include "base/tensor.h"

namespace cake {

// Every call is collective: all ranks make the same calls in the same order. Calls that take a Stream are ordered
// in it (on a GPU they return before they are done); those without are over when they return.
// A communicator is used from one thread, one collective at a time.
class Communicator {
public:
    virtual ~Communicator() = default;

    virtual int rank() const = 0;
    virtual int size() const = 0;
    virtual std::string name() const = 0;  // "self", "mpi", "nccl", "threads"

    // data[i] = sum over ranks of data[i], F32 or BF16, in place. All ranks get the same values. On the CPU element i is
    // rank 0's + rank 1's + ... in F32, rounded once, however long the message: a row's sum does not depend on which
    // rows travel with it.
    virtual void all_reduce_sum(Stream s, View data) = 0;

    // out = the ranks' `part`s one after another, in rank order. Parts may differ in length: `elements[r]` is rank
    // r's. part: [elements[rank]], out: [sum of elements], same dtype. `part` may be its own place in `out`.
    virtual void all_gather(Stream s, View part, std::span<const std::int64_t> elements,
                            View out) = 0;

    // data of rank `root` to all.
    virtual void broadcast(Stream s, View data, int root) = 0;

    // Host values. Sums are made in rank order on every rank from gathered values: bit-equal everywhere.
    virtual void sum(std::span<double> values) = 0;
    virtual void broadcast_bytes(std::span<std::byte> bytes, int root) = 0;
    // Every rank's string, in rank order, on every rank.
    virtual std::vector<std::string> gather_strings(const std::string& mine) = 0;
    virtual void barrier() = 0;

    // Ranks that give the same colour (0 or more) form a new group, ordered by rank here.
    virtual std::unique_ptr<Communicator> split(int color) = 0;

    // What has been sent so far, for reports and for the tests of `plan`. A group of one rank sends nothing, and a
    // message of length zero is not sent.
    struct Traffic {
        std::int64_t all_reduce_calls = 0;
        std::int64_t all_reduce_bytes = 0;  // payload of one rank
        std::int64_t statistics_bytes = 0;  // payload of sum()
        std::int64_t other_calls = 0;
        std::int64_t other_bytes = 0;

        Traffic& operator+=(const Traffic& more);
        Traffic operator-(const Traffic& before) const;
    };
    virtual Traffic traffic() const = 0;

    // Whether calls that take a Stream never wait for it, so that a graph can capture and repeat them.
    virtual bool in_stream() const { return false; }
    // A graph has repeated what traffic() counted as `sent` when it was captured: counts it again.
    virtual void count_again(const Traffic&) {}
};

inline Communicator::Traffic& Communicator::Traffic::operator+=(const Traffic& more) {
    all_reduce_calls += more.all_reduce_calls;
    all_reduce_bytes += more.all_reduce_bytes;
    statistics_bytes += more.statistics_bytes;
    other_calls += more.other_calls;
    other_bytes += more.other_bytes;
    return *this;
}

inline Communicator::Traffic Communicator::Traffic::operator-(const Traffic& before) const {
    return {all_reduce_calls - before.all_reduce_calls, all_reduce_bytes - before.all_reduce_bytes,
            statistics_bytes - before.statistics_bytes, other_calls - before.other_calls,
            other_bytes - before.other_bytes};
}

// One rank alone: every collective is the identity.
std::unique_ptr<Communicator> make_self_communicator();

}  // namespace cake
