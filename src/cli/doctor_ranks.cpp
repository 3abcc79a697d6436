#include "cli/doctor_ranks.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <sched.h>
#include <set>
#include <string_view>
#include <unistd.h>

#include "base/build_id.h"
#include "comm/version.h"
#include "engine/plan.h"

namespace cake {
namespace {

using nlohmann::json;

std::vector<int> allowed_cpus() {
    std::vector<int> cpus;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        for (int i = 0; i < CPU_SETSIZE; ++i)
            if (CPU_ISSET(i, &set))
                cpus.push_back(i);
    return cpus;
}

// Of the host, or of the part of it that Slurm gave to the job.
int processors() {
    const int online = int(sysconf(_SC_NPROCESSORS_ONLN));
    const char* slurm = std::getenv("SLURM_CPUS_ON_NODE");
    return slurm && std::atoi(slurm) > 0 ? std::min(online, std::atoi(slurm)) : online;
}

// The user's word, else mpirun's, which knows whether there are more ranks than slots.
bool yields_when_idle() {
    const char* value = std::getenv("OMPI_MCA_mpi_yield_when_idle");
    if (!value)
        value = std::getenv("OMPI_MCA_mpi_oversubscribe");
    return value && std::string_view(value) == "1";
}

struct Host {
    std::vector<json> ranks;
    std::set<int> cpus;  // of all its ranks
    int processors = 0, threads = 0;
    bool yields = true;
};

std::map<std::string, Host> by_host(const std::vector<json>& ranks) {
    std::map<std::string, Host> hosts;
    for (const json& rank : ranks) {
        Host& host = hosts[rank["host"]];
        for (int cpu : rank["cpus"])
            host.cpus.insert(cpu);
        host.processors = rank["processors"];
        host.threads += rank["threads"].get<int>();
        host.yields = host.yields && rank["yields"].get<bool>();
        host.ranks.push_back(rank);
    }
    return hosts;
}

constexpr const char* binding_advice =
    "with mpirun --bind-to none (launch/mpirun.sh does), or srun --cpus-per-task=N "
    "--cpu-bind=cores";

void look_at_cpus(const std::string& name, const Host& host, std::vector<std::string>& out) {
    const int ranks = int(host.ranks.size()), cpus = int(host.cpus.size());
    const auto cpus_text = [](int n) { return fmt::format("{} CPU{}", n, n == 1 ? "" : "s"); };

    std::map<std::vector<int>, std::vector<int>> bound;  // ranks by the CPUs they are bound to
    for (const json& rank : host.ranks)
        bound[rank["cpus"]].push_back(rank["rank"]);
    bool crowded = false;
    for (const auto& [set, there] : bound) {
        if (there.size() <= set.size() || int(set.size()) == host.processors)
            continue;
        crowded = true;
        out.push_back(fmt::format("{}: ranks {} are bound to the same {} ({}) of {}: start them {}",
                                  name, fmt::join(there, ", "), cpus_text(int(set.size())),
                                  cpu_list(set), host.processors, binding_advice));
    }
    if (!crowded && 2 * cpus <= host.processors)
        out.push_back(
            fmt::format("{}: its ranks may use {} of {}: if that was not meant, start them {}",
                        name, cpus_text(cpus), host.processors, binding_advice));

    if (ranks > cpus && !host.yields)
        out.push_back(fmt::format(
            "{}: {} ranks on {}, and one that waits keeps its CPU from the others: set "
            "OMPI_MCA_mpi_yield_when_idle=1 (launch/mpirun.sh does), or start fewer ranks",
            name, ranks, cpus_text(cpus)));
    else if (ranks > cpus && !crowded)
        out.push_back(fmt::format("{}: {} ranks take turns on {}: for speed start at most {} there",
                                  name, ranks, cpus_text(cpus), cpus));
    else if (ranks <= cpus && host.threads > cpus)
        out.push_back(
            fmt::format("{}: its ranks have {} threads on {}: leave engine.threads at auto", name,
                        host.threads, cpus_text(cpus)));
}

void look_at_memory(const std::string& name, const Host& host, std::vector<std::string>& out) {
    const double free = host.ranks[0]["free_bytes"], total = host.ranks[0]["total_bytes"];
    if (free < 0.05 * total || free < double(std::size_t(1) << 28) * double(host.ranks.size()))
        out.push_back(fmt::format(
            "{}: {} of {} are free for {} ranks: end what else runs there, ask Slurm for more "
            "(--mem), or take more hosts",
            name, human_bytes(free), human_bytes(total), host.ranks.size()));
}

}  // namespace

json rank_facts(const World& world, const Backend& dev) {
    const DeviceInfo host = make_cpu_backend(1)->info(), device = dev.info();
    json facts{{"rank", world.rank()},
               {"host", world.host()},
               {"local_rank", world.local_rank()},
               {"process", getpid()},
               {"version", CAKE_VERSION},
               {"build", build_id()},
               {"mpi", mpi_library_version()},
               {"cpus", allowed_cpus()},
               {"processors", processors()},
               {"threads", device.threads},
               {"yields", yields_when_idle()},
               {"backend", dev.name()},
               {"device", device.name},
               {"free_bytes", host.free_bytes},
               {"total_bytes", host.memory_bytes},
               {"device_free_bytes", nullptr},
               {"device_total_bytes", nullptr}};
    if (device.own_memory) {
        facts["device_free_bytes"] = device.free_bytes;
        facts["device_total_bytes"] = device.memory_bytes;
    }
    return facts;
}

std::string cpu_list(const std::vector<int>& cpus) {
    std::string out;
    for (std::size_t i = 0; i < cpus.size();) {
        std::size_t last = i;
        while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1)
            ++last;
        out += fmt::format("{}{}", out.empty() ? "" : ",", cpus[i]);
        if (last > i)
            out += fmt::format("-{}", cpus[last]);
        i = last + 1;
    }
    return out;
}

std::vector<std::string> placement_warnings(const std::vector<json>& ranks) {
    std::vector<std::string> out;
    for (const auto& [name, host] : by_host(ranks)) {
        look_at_cpus(name, host, out);
        look_at_memory(name, host, out);
    }
    return out;
}

}  // namespace cake
