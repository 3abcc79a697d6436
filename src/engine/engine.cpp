#include "engine/engine.h"

#include <utility>

#include "engine/scheduler.h"

namespace cake {
namespace {

Shard my_shard(const PlanInput& plan, const Communicator& comm) {
    CAKE_CHECK(plan.ranks == comm.size(), "planned for {} ranks, started on {}", plan.ranks,
               comm.size());
    return shard_of(plan.model, comm.size(), comm.rank());
}

}  // namespace

Engine::Engine(Backend& dev, Communicator& comm, const Checkpoint& checkpoint,
               const PlanInput& plan, const std::function<void(int)>& progress)
    : dev_(dev),
      comm_(comm),
      plan_(plan),
      model_(load_model(dev, checkpoint, plan.model, my_shard(plan, comm), plan.weights, progress)),
      workspace_(dev, plan.model, model_.shard, workspace_size(plan)),
      pool_(std::make_unique<PagePool>(dev, page_layout(plan, model_.shard),
                                       int(plan_rank(plan, comm.rank()).pages))),
      prefill_clock_(dev),
      decode_clock_(dev),
      load_s_(load_timer_.seconds()) {}

Rank Engine::rank(PhaseClock& clock) {
    if (!sharers_ && model_.shard.ranks > plan_.model.n_kv_heads)
        sharers_ = comm_.split(int(model_.shard.kv_heads.begin));
    return {dev_, comm_, &clock, {}, model_.shard.shares_kv() ? sharers_.get() : nullptr};
}

Communicator::Traffic Engine::sharing_traffic() const {
    return sharers_ ? sharers_->traffic() : Communicator::Traffic{};
}

Generation Engine::generate(const Request& request, const OnToken& on_token,
                            const PrefillOptions& options) {
    std::optional<Request> next = request;
    Generation out;
    Feed feed{
        .next = [&] { return std::exchange(next, std::nullopt); },
        .done = [&](const Request&, Generation generation) { out = std::move(generation); },
    };
    if (on_token)
        feed.on_token = [&](const Request&, TokenId id) { return on_token(id); };
    serve(*this, feed, {.prefill = options});
    return out;
}

}  // namespace cake
