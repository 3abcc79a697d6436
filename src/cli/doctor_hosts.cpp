#include "cli/doctor_hosts.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>
#include <unistd.h>

#include "base/timer.h"

namespace cake {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr double patience_s = 2;  // network file systems may be a moment late

// Rank 0's text, on all ranks.
std::string from_first(Communicator& comm, const std::string& mine) {
    return comm.gather_strings(mine)[0];
}

// Empty, or why not.
std::string write_file(const fs::path& path, const std::string& text) {
    std::ofstream out(path);
    out << text;
    out.close();
    return out ? "" : fmt::format("no file can be written in {}", path.parent_path().string());
}

bool sees(const fs::path& path, const std::string& text) {
    for (const Timer timer; timer.seconds() < patience_s;
         std::this_thread::sleep_for(std::chrono::milliseconds(20))) {
        std::ifstream in(path);
        if (std::string(std::istreambuf_iterator<char>(in), {}) == text)
            return true;
    }
    return false;
}

}  // namespace

std::vector<std::string> distinct_hosts(const std::vector<std::string>& host_of_rank) {
    std::vector<std::string> out;
    for (const std::string& host : host_of_rank)
        if (std::find(out.begin(), out.end(), host) == out.end())
            out.push_back(host);
    return out;
}

json try_folder(World& world, const std::string& folder) {
    Communicator& comm = world.comm();
    const std::string text = from_first(comm, fmt::format("{}.{}", world.host(), getpid()));
    const fs::path file = fs::path(folder) / (".cake-doctor." + text);
    const std::string error =
        from_first(comm, world.rank() == 0 ? write_file(file, text) : std::string());
    json result{{"folder", folder}, {"missing_on", json::array()}, {"error", nullptr}};
    if (!error.empty()) {
        result["error"] = error;
        return result;
    }
    const std::string missed = sees(file, text) ? "" : world.host();
    std::vector<std::string> hosts = comm.gather_strings(missed);
    std::erase(hosts, "");
    result["missing_on"] = distinct_hosts(hosts);
    if (world.rank() == 0) {
        std::error_code ignored;
        fs::remove(file, ignored);
    }
    return result;
}

json compare_clocks(World& world) {
    Communicator& comm = world.comm();
    std::vector<std::vector<double>> ahead(std::size_t(world.size()));  // by rank, of each try
    for (int i = 0; i < 9; ++i) {
        comm.barrier();
        const auto now = std::chrono::system_clock::now().time_since_epoch();
        const auto all = comm.gather_strings(
            std::to_string(std::chrono::duration_cast<std::chrono::microseconds>(now).count()));
        for (std::size_t r = 0; r < all.size(); ++r)
            ahead[r].push_back(1e-6 * double(std::stoll(all[r]) - std::stoll(all[0])));
    }
    const std::vector<std::string> host_of_rank = comm.gather_strings(world.host());
    json out = json::array();
    for (const std::string& host : distinct_hosts(host_of_rank)) {
        const auto rank = std::find(host_of_rank.begin(), host_of_rank.end(), host);
        std::vector<double>& tries = ahead[std::size_t(rank - host_of_rank.begin())];
        std::nth_element(tries.begin(), tries.begin() + 4, tries.end());
        out.push_back({{"host", host}, {"ahead_s", tries[4]}});
    }
    return out;
}

}  // namespace cake
