#include "bench/table.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/plan.h"

namespace cake {
namespace {

using nlohmann::json;

const std::vector<const char*> kKeys{"policy", "cache_size", "prompt_tokens", "batch",
                                     "new_tokens"};

// Rows of one combination.
using Group = std::vector<const json*>;

std::vector<Group> groups_of(const std::vector<json>& rows) {
    const auto same = [](const json& a, const json& b) {
        return std::all_of(kKeys.begin(), kKeys.end(),
                           [&](const char* key) { return a[key] == b[key]; });
    };
    std::vector<Group> out;
    for (const json& row : rows) {
        if (row.value("kind", "") != "cell")
            continue;
        const auto found = std::find_if(
            out.begin(), out.end(), [&](const Group& group) { return same(*group.front(), row); });
        if (found == out.end())
            out.push_back({&row});
        else
            found->push_back(&row);
    }
    return out;
}

Spread spread_of(const Group& group, const char* part, const std::string& key) {
    std::vector<double> values;
    for (const json* row : group)
        if (const json value = row->value(part, json::object()).value(key, json());
            value.is_number())
            values.push_back(value);
    return spread(values);
}

std::string shown(const Spread& s, int digits) {
    return s.n == 0 ? "-" : fmt::format("{:.{}f} ± {:.{}f}", s.mean, digits, s.sd, digits);
}

std::string plain(const json& value) {
    return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace

Spread spread(const std::vector<double>& values) {
    Spread out;
    out.n = int(values.size());
    if (values.empty())
        return out;
    out.mean = std::accumulate(values.begin(), values.end(), 0.0) / double(out.n);
    double squares = 0;
    for (double x : values)
        squares += (x - out.mean) * (x - out.mean);
    out.sd = out.n > 1 ? std::sqrt(squares / (out.n - 1)) : 0;
    return out;
}

std::string markdown_table(const std::vector<json>& rows) {
    std::string out =
        "| policy | C | prompt | batch | new | prefill t/s | % of GEMM | decode t/s | % of read | "
        "KV kept | KV peak | full cache |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for (const Group& group : groups_of(rows)) {
        const json& row = *group.front();
        out += "|";
        for (const char* key : kKeys)
            out += fmt::format(" {} |", key == kKeys[1] && row[key] == 0 ? "-" : plain(row[key]));
        if (!row.value("fits", true)) {
            const json& plan = row["plan"];
            if (plan["needed_bytes"] > plan["free_bytes"])
                out +=
                    fmt::format(" does not fit: {} needed, {} free",
                                human_bytes(plan["needed_bytes"]), human_bytes(plan["free_bytes"]));
            else
                out += fmt::format(" is longer than the context of {}", plan["context"].get<int>());
            out += " | | | | | | |\n";
            continue;
        }
        const auto bytes = [&](const char* key) {
            return human_bytes(spread_of(group, "kv", key).mean);
        };
        out += fmt::format(" {} | {:.0f} | {} | {:.0f} | {} | {} | {} |\n",
                           shown(spread_of(group, "prefill", "tokens_per_s"), 1),
                           spread_of(group, "prefill", "percent_of_gemm").mean,
                           shown(spread_of(group, "decode", "tokens_per_s"), 1),
                           spread_of(group, "decode", "percent_of_bandwidth").mean,
                           bytes("kept_bytes"), bytes("peak_bytes"), bytes("full_bytes"));
    }
    return out;
}

std::string csv_table(const std::vector<json>& rows) {
    std::vector<std::pair<const char*, std::string>> columns;
    for (const json& row : rows)
        if (columns.empty() && row.value("kind", "") == "cell" && row.value("fits", true))
            for (const char* part : {"prefill", "decode", "kv", "memory"})
                if (const auto found = row.find(part); found != row.end())
                    for (const auto& [key, value] : found->items())
                        columns.emplace_back(part, key);
    std::string out = fmt::format("{},n", fmt::join(kKeys, ","));
    for (const auto& [part, key] : columns)
        out += fmt::format(",{}_{}_mean,{}_{}_sd", part, key, part, key);
    out += "\n";
    for (const Group& group : groups_of(rows)) {
        if (!group.front()->value("fits", true))
            continue;
        for (const char* key : kKeys)
            out += plain((*group.front())[key]) + ",";
        out += std::to_string(group.size());
        for (const auto& [part, key] : columns) {
            const Spread s = spread_of(group, part, key);
            out += s.n > 0 ? fmt::format(",{:.9g},{:.9g}", s.mean, s.sd) : ",,";
        }
        out += "\n";
    }
    return out;
}

}  // namespace cake
