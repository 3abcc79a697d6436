#include "cli/doctor_links.h"

#include <algorithm>

#include "base/timer.h"
#include "engine/plan.h"
#include "engine/roofline.h"

namespace cake {
namespace {

using nlohmann::json;

constexpr std::size_t sizes[] = {16, 64 << 10, 4 << 20, 256 << 20};
constexpr double long_s = 1;        // a sum that takes longer is not waited for
constexpr double measured_s = 0.2;  // of each size, or one sum

// The largest of the ranks' numbers, on all of them: what is decided by it is decided alike.
double largest(Communicator& comm, double mine) {
    double out = mine;
    for (const std::string& theirs : comm.gather_strings(fmt::format("{}", mine)))
        out = std::max(out, std::stod(theirs));
    return out;
}

double seconds_of_sums(Backend& dev, Communicator& comm, View data, int n) {
    comm.barrier();
    const Timer timer;
    for (int i = 0; i < n; ++i)
        comm.all_reduce_sum({}, data);
    dev.synchronize({});
    return largest(comm, timer.seconds()) / n;
}

}  // namespace

double SumTime::bus_gb_s(int ranks) const {
    return seconds > 0 ? double(bytes) * 2 * (ranks - 1) / ranks / seconds / 1e9 : 0;
}

std::vector<SumTime> time_sums(Backend& dev, Communicator& comm, std::size_t room) {
    const double least_room = -largest(comm, -double(room));
    std::vector<SumTime> out;
    for (const std::size_t bytes : sizes) {
        SumTime& sum = out.emplace_back();
        sum.bytes = bytes;
        const double expected_s =  // by the last size; the first sum is slower than the next ones
            out.size() > 1
                ? out[out.size() - 2].seconds * double(bytes) / double(out[out.size() - 2].bytes)
                : 0;
        if (double(3 * bytes) > least_room)  // the message, and what a sum needs beside it
            sum.why_not = "memory is short";
        else if (bytes > (4 << 20) && expected_s > long_s)
            sum.why_not = fmt::format("would take about {:.0f} s", expected_s);
        if (!sum.why_not.empty())
            continue;
        const DType type = dev.types().activation;
        const Tensor data = dev.tensor(type, {std::int64_t(bytes / bytes_of(type, 1))});
        dev.fill_zero({}, data);
        const double first = seconds_of_sums(dev, comm, data, 1);
        const double second = first < measured_s ? seconds_of_sums(dev, comm, data, 1) : first;
        const int n = int(std::clamp(measured_s / std::max(second, 1e-9), 1.0, 1000.0));
        sum.seconds = seconds_of_sums(dev, comm, data, n);
    }
    return out;
}

json sums_json(const std::string& over, const std::vector<SumTime>& sums, int ranks,
               const Machine* machine) {
    json out = json::array();
    for (const SumTime& sum : sums) {
        const bool measured = sum.seconds > 0;
        json row{{"over", over},
                 {"bytes", sum.bytes},
                 {"seconds", measured ? json(sum.seconds) : json()},
                 {"bus_gb_s", measured ? json(sum.bus_gb_s(ranks)) : json()},
                 {"why_not", measured ? json() : json(sum.why_not)},
                 {"machine_seconds", nullptr},
                 {"machine_bus_gb_s", nullptr}};
        if (machine) {
            SumTime expected = sum;
            expected.seconds = all_reduce_seconds(*machine, ranks, 1, double(sum.bytes));
            row["machine_seconds"] = expected.seconds;
            row["machine_bus_gb_s"] = expected.bus_gb_s(ranks);
        }
        out.push_back(std::move(row));
    }
    return out;
}

std::vector<std::string> link_warnings(const json& sums) {
    std::vector<std::string> out;
    for (const json& sum : sums) {
        if (sum["seconds"].is_null())
            continue;
        const double seconds = sum["seconds"];
        const std::string what =
            fmt::format("a sum of {} over {} takes", human_bytes(double(sum["bytes"])),
                        sum["over"].get<std::string>());
        if (sum["bytes"] == 16 && seconds > 1e-3)
            out.push_back(fmt::format(
                "{} {:.1f} ms, and a token needs two for each layer: do other jobs use these CPUs, "
                "do ranks yield (OMPI_MCA_mpi_yield_when_idle=1), is it the right network "
                "(OMPI_MCA_btl_tcp_if_include)?",
                what, 1e3 * seconds));
        else if (!sum["machine_seconds"].is_null() && seconds > 3 * double(sum["machine_seconds"]))
            out.push_back(fmt::format(
                "{} {:.3g} ms, on the machine of --machine it would take {:.3g} ms: is it the "
                "right network (OMPI_MCA_btl_tcp_if_include, NCCL_DEBUG=INFO), does nothing else "
                "use it?",
                what, 1e3 * seconds, 1e3 * double(sum["machine_seconds"])));
    }
    return out;
}

}  // namespace cake
