#include "support/golden.h"

#include <algorithm>
#include <cstring>

#include "io/json_file.h"

namespace cake::test {

std::string golden_path(const std::string& name) {
    return std::string(CAKE_SOURCE_DIR) + "/tests/golden/" + name;
}

bool Capture::has(const std::string& name) const {
    return std::any_of(file_.tensors().begin(), file_.tensors().end(),
                       [&](const auto& t) { return t.name == name; });
}

const SafetensorsTensor& Capture::find(const std::string& name) const {
    for (const SafetensorsTensor& t : file_.tensors())
        if (t.name == name)
            return t;
    throw Error(file_.file().path() + " holds no " + name);
}

template <typename T>
std::vector<T> Capture::values(const std::string& name) const {
    const SafetensorsTensor& t = find(name);
    CAKE_CHECK(t.dtype == dtype_of<T>, "{} is {}", name, t.stored);
    std::vector<T> out(std::size_t(t.shape.elements()));
    std::memcpy(out.data(), t.data.data(), t.data.size());
    return out;
}
template std::vector<float> Capture::values<float>(const std::string&) const;
template std::vector<double> Capture::values<double>(const std::string&) const;
template std::vector<std::int32_t> Capture::values<std::int32_t>(const std::string&) const;

Golden::Golden(const std::string& name)
    : folder_(golden_path(name)), index_(read_json_file(folder_ + "/index.json")) {}

std::vector<TokenId> Golden::prompt(const std::string& name) const {
    return index_["prompts"][name]["input_ids"].get<std::vector<TokenId>>();
}

Positions split_positions(const std::vector<std::int32_t>& flat,
                          const std::vector<std::int32_t>& lengths, int n_kv) {
    Positions out;
    auto at = flat.begin();
    for (std::int32_t n : lengths) {
        auto& layer = out.emplace_back();
        for (int h = 0; h < n_kv; ++h, at += n)
            layer.emplace_back(at, at + n);
    }
    return out;
}

Positions sorted(Positions positions) {
    for (auto& layer : positions)
        for (auto& head : layer)
            std::sort(head.begin(), head.end());
    return positions;
}

SetDifference difference(const Positions& a, const Positions& b) {
    SetDifference out;
    const Positions x = sorted(a), y = sorted(b);
    for (std::size_t l = 0; l < x.size(); ++l) {
        for (std::size_t h = 0; h < x[l].size(); ++h) {
            std::vector<std::int32_t> only;
            std::set_difference(x[l][h].begin(), x[l][h].end(), y.at(l).at(h).begin(),
                                y[l][h].end(), std::back_inserter(only));
            out.different += std::int64_t(only.size());
            out.entries += std::int64_t(x[l][h].size());
        }
    }
    return out;
}

}  // namespace cake::test
