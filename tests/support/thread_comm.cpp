#include "support/thread_comm.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <numeric>
#include <thread>

#include <fmt/ranges.h>

#include "comm/rank_order_sum.h"

namespace cake {
namespace {

// Thrown at ranks that wait for one that will not come. Never the cause itself.
struct Released : Error {
    explicit Released(const std::string& why) : Error("released from a collective: " + why) {}
};

// What all groups of one run_ranks share: one lock, so that a failing rank frees waiting ones in whatever group.
struct Run {
    explicit Run(int n, std::chrono::milliseconds wait)
        : deadline(wait), returned(std::size_t(n), false) {}

    std::mutex mutex;
    std::condition_variable changed;
    const std::chrono::milliseconds deadline;
    std::vector<bool> returned;  // by thread
    std::string failure;         // why nobody shall wait any more; empty while all is well

    void fail(const std::string& why) {  // with the lock held
        if (failure.empty())
            failure = why;
        changed.notify_all();
    }
};

// One rank's collective call, laid open to the others of its group while it lasts.
struct Call {
    std::string what;  // must be equal on all ranks: the call, lengths, root
    const void* data = nullptr;
    int color = 0;  // of a split
};

struct Group {
    Group(std::shared_ptr<Run> r, std::vector<int> m)
        : run(std::move(r)), threads(std::move(m)), calls(threads.size()) {}

    std::shared_ptr<Run> run;
    std::vector<int> threads;  // of the run, by rank here
    std::vector<Call> calls;   // by rank
    int arrived = 0;
    int round = 0;
    std::map<int, std::shared_ptr<Group>> parts;  // of the split under way, by colour

    int size() const { return int(threads.size()); }

    // Returns when all ranks of the group have come. `sure`: they will, whatever happens elsewhere.
    void meet(const std::string& what, bool sure = false) {
        std::unique_lock lock(run->mutex);
        if (!run->failure.empty() && !sure)
            throw Released(run->failure);
        if (++arrived == size()) {
            arrived = 0;
            ++round;
            run->changed.notify_all();
            return;
        }
        const int mine = round;
        if (sure)
            return run->changed.wait(lock, [&] { return round != mine; });

        const auto until = std::chrono::steady_clock::now() + run->deadline;
        while (round == mine) {
            if (!run->failure.empty())
                throw Released(run->failure);
            // A thread that has returned cannot be among those that arrived: they are all waiting here.
            for (int rank = 0; rank < size(); ++rank)
                if (run->returned[std::size_t(threads[std::size_t(rank)])]) {
                    run->fail(fmt::format("rank {} of {} returned while others wait for it in {}",
                                          rank, size(), what));
                    throw Error(run->failure);
                }
            if (run->changed.wait_until(lock, until) == std::cv_status::timeout && round == mine) {
                run->fail(fmt::format("{} of {} ranks wait in {} past the deadline", arrived,
                                      size(), what));
                throw Error(run->failure);
            }
        }
    }
};

class ThreadCommunicator final : public Communicator {
public:
    ThreadCommunicator(std::shared_ptr<Group> group, int rank)
        : group_(std::move(group)), rank_(rank) {}

    int rank() const override { return rank_; }
    int size() const override { return group_->size(); }
    std::string name() const override { return "threads"; }
    Traffic traffic() const override { return traffic_; }

    void all_reduce_sum(Stream, View data) override {
        CAKE_CHECK(data.dtype() == DType::F32 || data.dtype() == DType::BF16,
                   "all_reduce_sum takes f32 or bf16, not {}", cake::name(data.dtype()));
        if (alone() || data.elements() == 0)
            return;
        ++traffic_.all_reduce_calls;
        traffic_.all_reduce_bytes += std::int64_t(data.bytes());
        if (data.dtype() == DType::F32)
            add(data.span<float>());
        else
            add(data.span<bf16>());
    }

    void all_gather(Stream, View part, std::span<const std::int64_t> elements, View out) override {
        CAKE_CHECK(int(elements.size()) == size(), "{} parts of {} ranks", elements.size(), size());
        const std::int64_t mine = elements[std::size_t(rank_)];
        const std::int64_t total =
            std::accumulate(elements.begin(), elements.end(), std::int64_t(0));
        if (total == 0)
            return;
        CAKE_CHECK(out.elements() == total, "all_gather of {} elements into {}", total,
                   out.shape().str());
        CAKE_CHECK(mine == 0 || (part.dtype() == out.dtype() && part.elements() == mine),
                   "rank {} gives {} where {} are due", rank_, part.shape().str(), mine);
        if (!alone())
            count_other(std::int64_t(bytes_of(out.dtype(), mine)));
        open({fmt::format("all_gather of [{}] {}", fmt::join(elements, ", "),
                          cake::name(out.dtype())),
              part.data()});
        std::vector<std::byte> all;
        for (int r = 0; r < size(); ++r) {
            const auto* from = static_cast<const std::byte*>(call(r).data);
            all.insert(all.end(), from, from + bytes_of(out.dtype(), elements[std::size_t(r)]));
        }
        close();
        std::memcpy(out.data(), all.data(), all.size());
    }

    void broadcast(Stream, View data, int root) override {
        broadcast_bytes({static_cast<std::byte*>(data.data()), data.bytes()}, root);
    }

    void broadcast_bytes(std::span<std::byte> bytes, int root) override {
        CAKE_CHECK(root >= 0 && root < size(), "root {} of {} ranks", root, size());
        if (alone() || bytes.empty())
            return;
        count_other(std::int64_t(bytes.size()));
        open({fmt::format("broadcast of {} bytes from rank {}", bytes.size(), root), bytes.data()});
        if (rank_ != root)
            std::memcpy(bytes.data(), call(root).data, bytes.size());
        close();
    }

    void sum(std::span<double> values) override {
        if (alone() || values.empty())
            return;
        traffic_.statistics_bytes += std::int64_t(values.size_bytes());
        open({fmt::format("sum of {}", values.size()), values.data()});
        std::vector<double> total(values.size());
        for (int r = 0; r < size(); ++r) {
            const auto* theirs = static_cast<const double*>(call(r).data);
            for (std::size_t i = 0; i < total.size(); ++i)
                total[i] = r == 0 ? theirs[i] : total[i] + theirs[i];
        }
        close();
        std::copy(total.begin(), total.end(), values.begin());
    }

    std::vector<std::string> gather_strings(const std::string& mine) override {
        if (!alone())
            count_other(std::int64_t(mine.size()));
        open({"gather_strings", &mine});
        std::vector<std::string> all;
        for (int r = 0; r < size(); ++r)
            all.push_back(*static_cast<const std::string*>(call(r).data));
        close();
        return all;
    }

    void barrier() override {
        if (!alone())
            count_other(0);
        open({"barrier", nullptr});
        close();
    }

    std::unique_ptr<Communicator> split(int color) override {
        CAKE_CHECK(color >= 0, "colour {} of a group", color);
        open({"split", nullptr, color});
        std::vector<int> threads;
        int rank = 0;
        for (int r = 0; r < size(); ++r) {
            if (call(r).color != color)
                continue;
            if (r == rank_)
                rank = int(threads.size());
            threads.push_back(group_->threads[std::size_t(r)]);
        }
        std::shared_ptr<Group> part;
        {
            std::lock_guard lock(group_->run->mutex);
            std::shared_ptr<Group>& known = group_->parts[color];
            if (!known)
                known = std::make_shared<Group>(group_->run, threads);
            part = known;
        }
        close();
        if (rank_ ==
            0) {  // the others look at the parts again in the next split, where they meet this rank first
            std::lock_guard lock(group_->run->mutex);
            group_->parts.clear();
        }
        return std::make_unique<ThreadCommunicator>(part, rank);
    }

private:
    bool alone() const { return size() == 1; }
    const Call& call(int rank) const { return group_->calls[std::size_t(rank)]; }

    void count_other(std::int64_t bytes) {
        ++traffic_.other_calls;
        traffic_.other_bytes += bytes;
    }

    // After this every rank may read what the others' calls point to, until close(). Where the calls differ all throw,
    // since each differs from some other.
    void open(Call mine) {
        group_->calls[std::size_t(rank_)] = mine;
        group_->meet(mine.what);
        for (int r = 0; r < size(); ++r)
            CAKE_CHECK(call(r).what == mine.what, "rank {} is in {} while rank {} is in {}", rank_,
                       mine.what, r, call(r).what);
    }

    // After this every rank has read what it wanted. Nobody leaves before, not even when a rank of another group fails:
    // its data are being read. All come, since there is only reading between open() and close().
    void close() { group_->meet("close", true); }

    template <typename T>
    void add(std::span<T> data) {
        open({fmt::format("all_reduce_sum of {} {}", data.size(), cake::name(dtype_of<T>)),
              data.data()});
        std::vector<const T*> parts;
        for (int r = 0; r < size(); ++r)
            parts.push_back(static_cast<const T*>(call(r).data));
        std::vector<T> total(data.size());
        add_in_rank_order<T>(parts, std::int64_t(data.size()), total.data());
        close();
        std::copy(total.begin(), total.end(), data.begin());
    }

    std::shared_ptr<Group> group_;
    int rank_;
    Traffic traffic_;
};

}  // namespace

void run_ranks(int n, const std::function<void(Communicator&)>& body,
               std::chrono::milliseconds deadline) {
    auto run = std::make_shared<Run>(n, deadline);
    std::vector<int> all(static_cast<std::size_t>(n));
    std::iota(all.begin(), all.end(), 0);
    auto group = std::make_shared<Group>(run, all);
    std::exception_ptr cause, consequence;

    // With the lock held: what rank `r` ended with.
    const auto note = [&](int r, std::exception_ptr& where, const std::string& text) {
        if (!where)
            where = std::current_exception();
        run->fail(fmt::format("rank {} threw: {}", r, text));
    };
    const auto rank_main = [&](int r) {
        try {
            ThreadCommunicator comm(group, r);
            body(comm);
            std::lock_guard lock(run->mutex);
            run->returned[std::size_t(r)] = true;
            run->changed.notify_all();
        } catch (const Released& error) {
            std::lock_guard lock(run->mutex);
            note(r, consequence, error.what());
        } catch (const std::exception& error) {
            std::lock_guard lock(run->mutex);
            note(r, cause, error.what());
        } catch (...) {
            std::lock_guard lock(run->mutex);
            note(r, cause, "an exception of an unknown kind");
        }
    };
    std::vector<std::thread> threads;
    for (int r = 0; r < n; ++r)
        threads.emplace_back(rank_main, r);
    for (std::thread& thread : threads)
        thread.join();
    if (cause)
        std::rethrow_exception(cause);
    if (consequence)
        std::rethrow_exception(consequence);
}

}  // namespace cake
