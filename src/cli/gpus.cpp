#include "cli/gpus.h"

#include <algorithm>
#include <map>
#include <numeric>

#include <nlohmann/json.hpp>

namespace cake {

using nlohmann::json;

GpuSurvey survey_gpus(Communicator& all, Communicator& local, const VisibleGpus& mine) {
    GpuSurvey survey;
    for (const std::string& theirs :
         local.gather_strings(json({mine.why_none, mine.bus_ids}).dump())) {
        const json gpus = json::parse(theirs);
        survey.local.push_back({gpus[1], gpus[0]});
    }
    const auto ranks = all.gather_strings(mine.bus_ids.empty() ? "none" : "some");
    const auto without = std::count(ranks.begin(), ranks.end(), "none");
    survey.somewhere = without < std::int64_t(ranks.size());
    survey.everywhere = without == 0;
    return survey;
}

std::vector<int> deal_gpus(std::span<const VisibleGpus> ranks, bool share) {
    std::map<std::string, int> ranks_on;  // by bus id
    for (const VisibleGpus& rank : ranks)
        for (const std::string& id : rank.bus_ids)
            ranks_on[id] = 0;

    std::vector<std::size_t> order(ranks.size());
    std::iota(order.begin(), order.end(), std::size_t(0));
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return ranks[a].bus_ids.size() < ranks[b].bus_ids.size();
    });

    std::vector<int> devices(ranks.size(), -1);
    for (const std::size_t r : order) {
        const auto& ids = ranks[r].bus_ids;
        const auto freest = std::min_element(
            ids.begin(), ids.end(),
            [&](const auto& a, const auto& b) { return ranks_on[a] < ranks_on[b]; });
        if (freest == ids.end())
            continue;
        if (ranks_on[*freest]++ > 0 && !share)
            throw usage_error(
                "{} ranks of a host see {} GPU{} in all, and none is left for local rank {}: start "
                "one rank per GPU, let ranks share one with --share-gpu, or compute on the CPU "
                "with --backend cpu",
                ranks.size(), ranks_on.size(), ranks_on.size() == 1 ? "" : "s", r);
        devices[r] = int(freest - ids.begin());
    }
    return devices;
}

std::optional<int> choose_gpu(const std::string& backend, bool share, const GpuSurvey& survey,
                              int local_rank) {
    if (backend == "cpu" || (backend == "auto" && !survey.everywhere))
        return {};
    const VisibleGpus& mine = survey.local.at(std::size_t(local_rank));
    if (mine.bus_ids.empty())
        throw usage_error(
            "--backend cuda: {}; `cake version` shows what this build and this machine have, and "
            "--backend cpu computes on the CPU",
            mine.why_none);
    return deal_gpus(survey.local, share)[std::size_t(local_rank)];
}

int ranks_on_gpu(bool share, const GpuSurvey& survey, int local_rank) {
    const std::vector<int> devices = deal_gpus(survey.local, share);
    const auto gpu_of = [&](std::size_t rank) {
        return devices[rank] < 0 ? std::string()
                                 : survey.local[rank].bus_ids[std::size_t(devices[rank])];
    };
    const std::string mine = gpu_of(std::size_t(local_rank));
    int ranks = 0;
    for (std::size_t r = 0; r < devices.size(); ++r)
        ranks += gpu_of(r) == mine;
    return ranks;
}

}  // namespace cake
