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

// Out of memory that is taken in one piece.
Model load(Backend& dev, const Communicator& comm, const Checkpoint& checkpoint,
           const PlanInput& plan, const std::function<void(int)>& progress) {
    const Shard shard = my_shard(plan, comm);
    const RankPlan planned = plan_rank(plan, comm.rank());
    dev.reserve(planned.total(), planned.kernel_work);
    return load_model(dev, checkpoint, plan.model, shard, plan.weights, progress);
}

}  // namespace

Engine::Engine(Backend& dev, Communicator& comm, const Checkpoint& checkpoint,
               const PlanInput& plan, const std::function<void(int)>& progress, RankStatus* status)
    : dev_(dev),
      comm_(comm),
      plan_(plan),
      status_(status),
      model_(load(dev, comm, checkpoint, plan, progress)),
      workspace_(dev, plan.model, model_.shard, workspace_size(plan)),
      pool_(std::make_unique<PagePool>(dev, page_layout(plan, model_.shard),
                                       int(plan_rank(plan, comm.rank()).pages))),
      prefill_clock_(dev),
      decode_clock_(dev),
      load_s_(load_timer_.seconds()) {}

Rank Engine::rank(PhaseClock& clock) {
    if (!sharers_ && model_.shard.ranks > plan_.model.n_kv_heads)
        sharers_ = comm_.split(int(model_.shard.kv_heads.begin));
    Communicator* sharers = model_.shard.shares_kv() ? sharers_.get() : nullptr;
    return {.dev = dev_, .comm = comm_, .times = &clock, .sharers = sharers, .status = status_};
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

double step_bytes(const Engine& engine, const std::vector<const SequenceCache*>& caches) {
    const Model& model = engine.model();
    std::size_t bytes = model.weight_bytes() - (model.head ? model.embedding.bytes() : 0);
    for (const SequenceCache* cache : caches)
        bytes += cache->kept_bytes();
    return double(bytes);
}

}  // namespace cake
