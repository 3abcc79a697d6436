#include "cli/doctor_table.h"

#include <algorithm>
#include <cmath>

#include "cli/doctor_ranks.h"
#include "engine/plan.h"

namespace cake {
namespace {

using nlohmann::json;

std::string ranks_table(const json& ranks) {
    std::size_t host = 4, cpus = 4;
    for (const json& r : ranks) {
        host = std::max(host, r["host"].get_ref<const std::string&>().size());
        cpus = std::max(cpus, cpu_list(r["cpus"]).size());
    }
    std::string out =
        fmt::format("{:>4}  {:<{}}  {:>5}  {:<{}}  {:>7}  {:>9}  {:>9}  {}\n", "rank", "host", host,
                    "local", "cpus", cpus, "threads", "host free", "gpu free", "device");
    for (const json& r : ranks)
        out += fmt::format(
            "{:>4}  {:<{}}  {:>5}  {:<{}}  {:>7}  {:>9}  {:>9}  {}\n", r["rank"].get<int>(),
            r["host"].get<std::string>(), host, r["local_rank"].get<int>(), cpu_list(r["cpus"]),
            cpus, r["threads"].get<int>(), human_bytes(r["free_bytes"]),
            r["device_free_bytes"].is_null() ? "-" : human_bytes(r["device_free_bytes"]),
            r["device"].get<std::string>());
    return out;
}

std::string time(const json& seconds) {
    if (seconds.is_null())
        return "-";
    const double s = seconds;
    return s < 1e-3 ? fmt::format("{:.1f} us", 1e6 * s)
           : s < 1  ? fmt::format("{:.1f} ms", 1e3 * s)
                    : fmt::format("{:.2f} s", s);
}

std::string rate(const json& gb_s) {
    return gb_s.is_null() ? "-" : fmt::format("{:.3g} GB/s", gb_s.get<double>());
}

std::string sums_table(const json& report) {
    std::string out;
    std::string over;
    for (const json& sum : report["all_reduce"]) {
        if (sum["over"] != over) {
            over = sum["over"];
            out += fmt::format("\nall-reduce over {:<10}{:>10}  {:>12}", over, "time", "bus");
            if (!report["machine"].is_null())
                out += fmt::format("    {}: {:>9}  {:>12}", report["machine"].get<std::string>(),
                                   "time", "bus");
            out += "\n";
        }
        out += fmt::format("{:>26}{:>10}  {:>12}", human_bytes(sum["bytes"]), time(sum["seconds"]),
                           rate(sum["bus_gb_s"]));
        if (!report["machine"].is_null())
            out += fmt::format("    {:>{}}  {:>12}", time(sum["machine_seconds"]),
                               report["machine"].get_ref<const std::string&>().size() + 11,
                               rate(sum["machine_bus_gb_s"]));
        if (sum["seconds"].is_null())
            out += "  " + sum["why_not"].get<std::string>();
        out += "\n";
    }
    return out;
}

std::string list(const char* what, const json& lines) {
    std::string out;
    for (const json& line : lines)
        out += fmt::format("{}: {}\n", what, line.get<std::string>());
    return out;
}

}  // namespace

std::string doctor_table(const json& report) {
    const json& ranks = report["ranks"];
    const json& first = ranks[0];
    std::string out =
        fmt::format("cake {}, build {}, {}\n{} rank{} on {} host{}\n\n",
                    first["version"].get<std::string>(), first["build"].get<std::string>(),
                    first["mpi"].get<std::string>(), ranks.size(), ranks.size() == 1 ? "" : "s",
                    report["clocks"].size(), report["clocks"].size() == 1 ? "" : "s");
    out += ranks_table(ranks) + sums_table(report) + "\n";

    for (const json& folder : report["folders"])
        out += fmt::format("folder {}: {}\n", folder["folder"].get<std::string>(),
                           !folder["error"].is_null()     ? "cannot be written"
                           : folder["missing_on"].empty() ? "seen by all hosts"
                                                          : "not shared by all hosts");
    double skew = 0;
    for (const json& clock : report["clocks"])
        skew = std::max(skew, std::abs(clock["ahead_s"].get<double>()));
    if (report["clocks"].size() > 1)
        out += fmt::format("clocks: within {}\n", time(skew));
    if (const json& model = report["model"]; !model.is_null())
        out += fmt::format(
            "model {}: {}, {} of weights over all ranks\n", model["path"].get<std::string>(),
            model["architecture"].get<std::string>(), human_bytes(model["weights_bytes"]));
    out += list("error", report["errors"]) + list("warning", report["warnings"]);
    if (report["errors"].empty() && report["warnings"].empty())
        out += "nothing to complain of\n";
    return out + fmt::format("took {:.1f} s\n", report["seconds"].get<double>());
}

}  // namespace cake
