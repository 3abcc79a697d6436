// Captures of the official code (tests/golden/README.md says what is in them).
#pragma once

#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/dtype.h"
#include "io/safetensors.h"

namespace cake::test {

// tests/golden/<name> of the source, or of the folder that CAKE_SOURCE names.
std::string golden_path(const std::string& name);

// The folder of a model. That of tiny-llama-bf16 is made at first use, of tiny-llama's weights rounded to BF16: it is
// what its captures were made from, to the bit.
std::string golden_model(const std::string& name);

// One file of captured tensors.
class Capture {
public:
    explicit Capture(const std::string& path) : file_(path) {}
    std::vector<std::string> names() const;
    bool has(const std::string& name) const;
    Shape shape(const std::string& name) const { return find(name).shape; }
    std::vector<float> f32(const std::string& name) const { return values<float>(name); }
    std::vector<double> f64(const std::string& name) const { return values<double>(name); }
    std::vector<std::int32_t> i32(const std::string& name) const;  // of I32 or I16

private:
    const SafetensorsTensor& find(const std::string& name) const;
    template <typename T>
    std::vector<T> values(const std::string& name) const;
    SafetensorsFile file_;
};

// A folder of captures: one model.
class Golden {
public:
    explicit Golden(const std::string& name);
    std::string model_path() const { return golden_model(name_); }
    Capture capture(const std::string& file) const { return Capture(folder_ + "/" + file); }
    std::vector<TokenId> prompt(const std::string& name) const;
    const nlohmann::json& index() const { return index_; }
    // The runs of the official code, with "tag", "prompt", "cache_size", "cascading", "order", "file", ...
    const nlohmann::json& runs() const { return index_["runs"]; }

private:
    std::string name_, folder_;
    nlohmann::json index_;
};

// [layer][KV head][...] from a flat list of blocks [n_kv, length[l]].
using Positions = std::vector<std::vector<std::vector<std::int32_t>>>;
Positions split_positions(const std::vector<std::int32_t>& flat,
                          const std::vector<std::int32_t>& lengths, int n_kv);
// Each head's positions ascending: as sets.
Positions sorted(Positions positions);
// In how many entries two runs differ, over all layers and heads, and the number of entries. Throws where they have
// other layers or heads.
struct SetDifference {
    std::int64_t different = 0, entries = 0;
    double fraction() const { return double(different) / double(entries); }
};
SetDifference difference(const Positions& a, const Positions& b);

}  // namespace cake::test
