// What a batch did, in numbers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace cake {

class BatchSummary {
public:
    // A result as it was written, and the times between its tokens.
    void add(const nlohmann::json& result, std::span<const double> inter_token_ms);
    // A job that got no result.
    void add_refused() { ++jobs_, ++failed_; }

    std::int64_t jobs() const { return jobs_; }
    std::int64_t failed() const { return failed_; }

    // "summary" of a report: `done_before` jobs had results already, `wall_s` seconds from the first job's start to the
    // last one's end. Memory and phases come from `report`.
    nlohmann::json to_json(const nlohmann::json& report, std::int64_t done_before,
                           double wall_s) const;

private:
    std::int64_t jobs_ = 0, failed_ = 0, prompt_tokens_ = 0, output_tokens_ = 0;
    std::vector<double> ttft_s_, inter_token_ms_;
};

// The same for people.
std::string summary_text(const nlohmann::json& summary);

}  // namespace cake
