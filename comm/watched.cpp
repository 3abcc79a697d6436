#include "comm/watched.h"

#include <utility>

namespace cake {
namespace {

class WatchedCommunicator final : public Communicator {
public:
    WatchedCommunicator(std::unique_ptr<Communicator> inner, Watchdog& watchdog,
                        std::vector<int> ranks)
        : inner_(std::move(inner)), watchdog_(watchdog), group_(watchdog.group(std::move(ranks))) {}

    int rank() const override { return inner_->rank(); }
    int size() const override { return inner_->size(); }
    std::string name() const override { return inner_->name(); }
    Traffic traffic() const override { return inner_->traffic(); }

    void all_reduce_sum(Stream s, View data) override {
        const Waiting waiting = waits(Call::AllReduce);
        inner_->all_reduce_sum(s, data);
    }
    void all_gather(Stream s, View part, std::span<const std::int64_t> elements,
                    View out) override {
        const Waiting waiting = waits(Call::AllGather);
        inner_->all_gather(s, part, elements, out);
    }
    void broadcast(Stream s, View data, int root) override {
        const Waiting waiting = waits(Call::Broadcast);
        inner_->broadcast(s, data, root);
    }
    void sum(std::span<double> values) override {
        const Waiting waiting = waits(Call::Sum);
        inner_->sum(values);
    }
    void broadcast_bytes(std::span<std::byte> bytes, int root) override {
        const Waiting waiting = waits(Call::Broadcast);
        inner_->broadcast_bytes(bytes, root);
    }
    std::vector<std::string> gather_strings(const std::string& mine) override {
        const Waiting waiting = waits(Call::GatherStrings);
        return inner_->gather_strings(mine);
    }
    void barrier() override {
        const Waiting waiting = waits(Call::Barrier);
        inner_->barrier();
    }

    std::unique_ptr<Communicator> split(int color) override {
        const Waiting waiting = waits(Call::Split);
        auto part = inner_->split(color);
        auto ranks = world_ranks(*part, group_.ranks[std::size_t(rank())]);
        return make_watched_communicator(std::move(part), watchdog_, std::move(ranks));
    }

private:
    Waiting waits(Call call) { return Waiting(watchdog_, group_, call); }

    std::unique_ptr<Communicator> inner_;
    Watchdog& watchdog_;
    Watchdog::Group& group_;
};

}  // namespace

std::unique_ptr<Communicator> make_watched_communicator(std::unique_ptr<Communicator> inner,
                                                        Watchdog& watchdog,
                                                        std::vector<int> ranks) {
    return std::make_unique<WatchedCommunicator>(std::move(inner), watchdog, std::move(ranks));
}

std::vector<int> world_ranks(Communicator& group, int mine) {
    std::vector<int> ranks;
    for (const std::string& theirs : group.split(0)->gather_strings(std::to_string(mine)))
        ranks.push_back(std::stoi(theirs));
    return ranks;
}

}  // namespace cake
