// `cake diff A B`: whether two runs kept the same tokens and said the same.
#include <algorithm>
#include <map>
#include <set>

#include "cli/cli.h"
#include "io/json_file.h"

namespace cake {
namespace {

using nlohmann::json;

struct Tolerance {
    int budget = 0;   // tokens
    double kept = 0;  // fraction of a request's entries
};

// What differs, a line each; empty where the reports agree.
class Differences {
public:
    template <typename... Args>
    void add(fmt::format_string<Args...> format, Args&&... args) {
        text_ += fmt::format(format, std::forward<Args>(args)...) + "\n";
    }
    const std::string& text() const { return text_; }

private:
    std::string text_;
};

std::map<std::string, json> by_id(const json& report, const std::string& path) {
    if (!report.is_object() || !report.contains("requests") || !report["requests"].is_array())
        throw usage_error("{}: is not a report: it has no list of requests", path);
    std::map<std::string, json> out;
    for (const json& request : report["requests"]) {
        if (!request.is_object() || !request.contains("id") || !request["id"].is_string())
            throw usage_error("{}: a request has no id", path);
        if (!request.contains("layers") || !request["layers"].is_array())
            throw usage_error("{}: request {} has no list of layers", path, request["id"].dump());
        out[request["id"]] = request;
    }
    return out;
}

void compare_tokens(const std::string& id, const json& a, const json& b, Differences& out) {
    if (a == b)
        return;
    std::size_t same = 0;
    while (same < a.size() && same < b.size() && a[same] == b[same])
        ++same;
    out.add("request {}: output tokens differ from token {} on ({} and {} tokens)", id, same,
            a.size(), b.size());
}

void compare_layers(const std::string& id, const json& a, const json& b, const Tolerance& t,
                    bool digests, Differences& out) {
    if (a.size() != b.size()) {
        out.add("request {}: {} layers and {}", id, a.size(), b.size());
        return;
    }
    for (std::size_t l = 0; l < a.size(); ++l) {
        const int x = a[l].value("budget", 0), y = b[l].value("budget", 0);
        if (std::abs(x - y) > t.budget)
            out.add("request {}, layer {}: budgets {} and {}, {} apart", id, l, x, y,
                    std::abs(x - y));
        if (!digests || (x != y && std::abs(x - y) <= t.budget))
            continue;  // other budgets, other tokens: what was asked to be accepted
        const json p = a[l].value("digest", json::array()), q = b[l].value("digest", json::array());
        for (std::size_t h = 0; h < std::max(p.size(), q.size()); ++h)
            if (h >= p.size() || h >= q.size() || p[h] != q[h])
                out.add("request {}, layer {}, KV head {}: kept tokens differ", id, l, h);
    }
}

// Entries of one list of positions that the other has not.
std::int64_t missing(const json& a, const json& b) {
    const auto x = a.get<std::set<int>>(), y = b.get<std::set<int>>();
    return std::count_if(x.begin(), x.end(), [&](int p) { return !y.contains(p); });
}

void compare_kept(const std::string& id, const json& a, const json& b, const Tolerance& t,
                  Differences& out) {
    std::int64_t different = 0, entries = 0;
    Differences heads;
    for (std::size_t l = 0; l < std::max(a.size(), b.size()); ++l) {
        const json p = l < a.size() ? a[l] : json::array(), q = l < b.size() ? b[l] : json::array();
        for (std::size_t h = 0; h < std::max(p.size(), q.size()); ++h) {
            const json x = h < p.size() ? p[h] : json::array(),
                       y = h < q.size() ? q[h] : json::array();
            const std::int64_t n = std::max(missing(x, y), missing(y, x));
            different += n;
            entries += std::int64_t(std::max(x.size(), y.size()));
            if (n > 0)
                heads.add("request {}, layer {}, KV head {}: {} of {} kept tokens differ", id, l, h,
                          n, x.size());
        }
    }
    if (double(different) > t.kept * double(entries))
        out.add("{}request {}: {} of {} kept entries differ ({:.3g})", heads.text(), id, different,
                entries, double(different) / double(std::max<std::int64_t>(entries, 1)));
}

}  // namespace

ExitCode run_diff(CommandContext& context) {
    CLI::App app(
        "Compares budgets, kept tokens and output tokens of two reports. Exit 0: equal; 1: they "
        "differ.",
        "cake diff");
    std::string a, b, kept_a, kept_b;
    Tolerance tolerance;
    bool any_tokens = false;
    app.add_option("A", a, "a report")->required();
    app.add_option("B", b, "another")->required();
    app.add_option("--budget-tolerance", tolerance.budget, "accept budgets that differ by N tokens")
        ->type_name("N")
        ->check(CLI::NonNegativeNumber);
    app.add_option("--kept-tolerance", tolerance.kept,
                   "accept kept sets that differ in a fraction F of their entries; "
                   "needs both --kept files")
        ->type_name("F")
        ->check(CLI::NonNegativeNumber);
    app.add_flag("--any-tokens", any_tokens,
                 "do not compare output tokens, as of runs that round differently");
    app.add_option("--kept-a", kept_a, "what --dump-kept wrote beside A")->type_name("FILE");
    app.add_option("--kept-b", kept_b, "what --dump-kept wrote beside B")->type_name("FILE");
    if (const auto over = parse_arguments(context, app))
        return *over;

    Differences out;
    context.world.agree([&] {
        if (kept_a.empty() != kept_b.empty())
            throw usage_error(
                "kept positions of one run are given: --kept-a and --kept-b go together");
        const bool positions = !kept_a.empty();
        if (tolerance.kept > 0 && !positions)
            throw usage_error(
                "--kept-tolerance compares positions: give both runs' --dump-kept files with "
                "--kept-a and --kept-b");
        try {
            const auto x = by_id(read_json_file(a), a), y = by_id(read_json_file(b), b);
            for (const auto& [id, request] : x) {
                if (!y.contains(id)) {
                    out.add("request {}: only in {}", id, a);
                    continue;
                }
                if (!any_tokens)
                    compare_tokens(id, request.value("tokens", json::array()),
                                   y.at(id).value("tokens", json::array()), out);
                compare_layers(id, request.value("layers", json::array()),
                               y.at(id).value("layers", json::array()), tolerance, !positions, out);
            }
            for (const auto& [id, request] : y)
                if (!x.contains(id))
                    out.add("request {}: only in {}", id, b);
            if (positions) {
                const auto p = by_id(read_json_file(kept_a), kept_a),
                           q = by_id(read_json_file(kept_b), kept_b);
                for (const auto& [id, request] : x) {
                    if (p.contains(id) && q.contains(id))
                        compare_kept(id, p.at(id).at("layers"), q.at(id).at("layers"), tolerance,
                                     out);
                    else
                        out.add("request {}: {} holds no kept positions of it", id,
                                p.contains(id) ? kept_b : kept_a);
                }
            }
        } catch (const json::exception& e) {
            throw usage_error("{} or {} is not a report of this program: {}", a, b, e.what());
        }
    });
    print_once(context, out.text().empty() ? "equal\n" : out.text());
    return out.text().empty() ? ExitCode::Done : ExitCode::Failed;
}

}  // namespace cake
