// Any bytes as a file of jobs: every line that is not white space gives one job, right or with an error, and no two
// have the same id.
#include <cstdint>
#include <set>
#include <sstream>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/jobs.h"

using namespace cake;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::istringstream in(std::string(reinterpret_cast<const char*>(data), size));
    JobReader reader(in, "fuzz");
    std::set<std::string> ids;
    std::int64_t last_line = 0;
    while (const auto job = reader.next()) {
        CAKE_CHECK(job->line > last_line, "line {} after {}", job->line, last_line);
        last_line = job->line;
        CAKE_CHECK(ids.insert(job->id).second, "{} twice", job->id);
        nlohmann::json(job->id).dump();  // throws where it is not UTF-8
        if (job->error.empty()) {
            nlohmann::json(job->prompt).dump();
            CAKE_CHECK(!job->tokens || (job->prompt.empty() && !job->tokens->empty()), "both");
        } else {
            CAKE_CHECK(job->error.starts_with("fuzz:" + std::to_string(job->line)), "{}",
                       job->error);
        }
    }
    std::istringstream again(in.str());
    std::string line;
    std::size_t n = 0;
    while (std::getline(again, line))
        n += line.find_first_not_of(" \t\r") != std::string::npos;
    CAKE_CHECK(n == ids.size(), "{} jobs of {} lines", ids.size(), n);
    return 0;
}
