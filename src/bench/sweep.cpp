#include "bench/sweep.h"

#include <algorithm>

namespace cake {
namespace {

class Runner {
public:
    Runner(Engine& engine, const RunConfig& config, const Sweep& sweep)
        : engine_(engine), bench_(config.bench), sweep_(sweep) {}

    // A negative repetition warms up: its rows are not kept, and one combination is enough.
    bool repetition(const std::vector<Policy>& group, int length, int number) {
        if (!go_on())
            return false;
        std::vector<Policy> wanted;
        for (const Policy& policy : group)
            if (number < 0 || !pending(policy, length, number).empty())
                wanted.push_back(policy);
        if (wanted.empty())
            return true;
        for (const Prefilled& prefilled : measure_prefill(engine_, sweep_.prompt(length), wanted)) {
            std::vector<BenchCell> cells = pending(prefilled.policy, length, number);
            if (number < 0)
                cells.resize(std::min<std::size_t>(cells.size(), 1));
            for (const BenchCell& cell : cells) {
                if (!go_on())
                    return false;
                const DecodeMeasure decode = measure_decode(engine_, prefilled, length, cell.batch,
                                                            cell.new_tokens, sweep_.sampling);
                nlohmann::json row =
                    bench_row(engine_, cell, prefilled, decode, sweep_.all, sweep_.alone);
                row["repetition"] = number;
                row["sampling"] = sampling_json(sweep_.sampling);
                if (number >= 0 && engine_.comm().rank() == 0)
                    sweep_.row(row_id(cell, number), std::move(row));
            }
        }
        return true;
    }

    bool any_pending(const std::vector<Policy>& group, int length) const {
        for (int number = 0; number < bench_.repeat; ++number)
            for (const Policy& policy : group)
                if (!pending(policy, length, number).empty())
                    return true;
        return false;
    }

private:
    std::vector<BenchCell> pending(const Policy& policy, int length, int number) const {
        std::vector<BenchCell> out;
        for (int batch : bench_.batches)
            for (int new_tokens : bench_.new_tokens) {
                const BenchCell cell{policy, length, batch, new_tokens};
                if (!sweep_.done.contains(row_id(cell, number)))
                    out.push_back(cell);
            }
        return out;
    }

    bool go_on() {
        std::int32_t stop = engine_.comm().rank() == 0 && sweep_.stopped();
        engine_.comm().broadcast_bytes(std::as_writable_bytes(std::span(&stop, 1)), 0);
        return !stop;
    }

    Engine& engine_;
    const RunConfig::Bench& bench_;
    const Sweep& sweep_;
};

}  // namespace

bool run_sweep(Engine& engine, const RunConfig& config, const Sweep& sweep) {
    Runner runner(engine, config, sweep);
    for (int length : sweep.prompts)
        for (const auto& group : prefill_groups(study_policies(config, engine.plan().model))) {
            if (!runner.any_pending(group, length))
                continue;
            for (int number = -config.bench.warmup; number < config.bench.repeat; ++number)
                if (!runner.repetition(group, length, number))
                    return false;
        }
    return true;
}

int count_rows(const RunConfig& config, const ModelConfig& model, const std::vector<int>& prompts) {
    const RunConfig::Bench& b = config.bench;
    return int(prompts.size() * study_policies(config, model).size() * b.batches.size() *
               b.new_tokens.size()) *
           b.repeat;
}

}  // namespace cake
