#include "support/golden.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "io/json_file.h"
#include "support/safetensors_writer.h"
#include "support/temp_folder.h"

namespace cake::test {

std::string golden_path(const std::string& name) {
    const char* carried = std::getenv("CAKE_SOURCE");  // tests that run where they were not built
    return std::string(carried ? carried : CAKE_SOURCE_DIR) + "/tests/golden/" + name;
}

std::string golden_model(const std::string& name) {
    const std::string folder = golden_path(name) + "/model";
    if (name != "tiny-llama-bf16")
        return folder;
    static const TempFolder rounded;
    static const bool made = [&] {
        for (const auto& entry : std::filesystem::directory_iterator(folder))
            std::filesystem::copy(entry, rounded.path());
        const Capture weights(golden_model("tiny-llama") + "/model.safetensors");
        SafetensorsWriter writer;
        for (const std::string& tensor : weights.names())
            writer.tensor(tensor, weights.shape(tensor), weights.f32(tensor), DType::BF16);
        writer.write(rounded.file("model.safetensors"));
        return true;
    }();
    CAKE_CHECK(made, "{} could not be made", name);
    return rounded.path();
}

std::vector<std::string> Capture::names() const {
    std::vector<std::string> out;
    for (const SafetensorsTensor& t : file_.tensors())
        out.push_back(t.name);
    return out;
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

std::vector<std::int32_t> Capture::i32(const std::string& name) const {
    const SafetensorsTensor& t = find(name);
    if (t.stored != "I16")
        return values<std::int32_t>(name);
    std::vector<std::int16_t> narrow(std::size_t(t.shape.elements()));
    std::memcpy(narrow.data(), t.data.data(), t.data.size());
    return {narrow.begin(), narrow.end()};
}

Golden::Golden(const std::string& name)
    : name_(name), folder_(golden_path(name)), index_(read_json_file(folder_ + "/index.json")) {}

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
    CAKE_CHECK(!x.empty() && x.size() == y.size(), "{} layers and {}", x.size(), y.size());
    for (std::size_t l = 0; l < x.size(); ++l) {
        CAKE_CHECK(x[l].size() == y[l].size(), "layer {}: {} heads and {}", l, x[l].size(),
                   y[l].size());
        for (std::size_t h = 0; h < x[l].size(); ++h) {
            std::vector<std::int32_t> either;
            std::set_symmetric_difference(x[l][h].begin(), x[l][h].end(), y[l][h].begin(),
                                          y[l][h].end(), std::back_inserter(either));
            // A token that took another's place counts once.
            out.different += std::int64_t(either.size() + 1) / 2;
            out.entries += std::int64_t(std::max(x[l][h].size(), y[l][h].size()));
        }
    }
    return out;
}

}  // namespace cake::test
