// A whole model (llama) in double precision by plain loops, one token at a time: what whole policies are judged by.
// Symbols: d = d_head, n_q and n_kv heads, x the residual stream.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "config/model_config.h"
#include "support/golden.h"
#include "support/reference_block.h"

namespace cake::reference {

// What a KV head holds of a token.
struct Entry {
    int position = 0;
    Row k, v;            // [d]
    double running = 0;  // for policies that accumulate
};
using Entries = std::vector<Entry>;
using Cache = std::vector<std::vector<Entries>>;  // [L][n_kv]

class PlainModel {
public:
    explicit PlainModel(const std::string& folder)
        : config_(read_model_config(folder)),
          inv_freq_(rope_inv_freq(config_.rope, config_.d_head)) {
        const test::Capture file(folder + "/model.safetensors");
        for (const std::string& name : file.names())
            weights_[name] = file.f32(name);
    }

    const ModelConfig& config() const { return config_; }
    Cache empty_cache() const {
        return Cache(std::size_t(config_.n_layers),
                     std::vector<Entries>(std::size_t(config_.n_kv_heads)));
    }

    // A token joins every layer of the cache and attends to all that is there, itself included.
    // Returns the softmax rows [L][n_q][entries], the logits in `logits`, and in `attention_out` what each layer's attention
    // makes, before the output projection: [L][n_q d].
    std::vector<std::vector<Row>> step(std::int32_t token, int position, Cache& cache,
                                       Row* logits = nullptr,
                                       std::vector<Row>* attention_out = nullptr) const {
        const std::size_t D = std::size_t(config_.d_model), d = std::size_t(config_.d_head);
        const auto& embedding = weights_.at("model.embed_tokens.weight");
        Row x(embedding.begin() + token * std::ptrdiff_t(D),
              embedding.begin() + (token + 1) * std::ptrdiff_t(D));
        std::vector<std::vector<Row>> rows;
        for (std::size_t l = 0; l < cache.size(); ++l) {
            const std::string p = "model.layers." + std::to_string(l) + ".";
            const Row n = norm(x, p + "input_layernorm.weight");
            const Row q = times(p + "self_attn.q_proj.weight", n),
                      k = times(p + "self_attn.k_proj.weight", n),
                      v = times(p + "self_attn.v_proj.weight", n);
            for (std::size_t g = 0; g < cache[l].size(); ++g)
                cache[l][g].push_back({position, turned(head(k, g, d), position), head(v, g, d)});
            rows.emplace_back();
            Row attended;
            for (std::size_t h = 0; h < std::size_t(config_.n_heads); ++h) {
                const Entries& entries = cache[l][h / std::size_t(config_.group())];
                rows.back().push_back(attention(turned(head(q, h, d), position), entries));
                Row out(d);
                for (std::size_t j = 0; j < entries.size(); ++j)
                    for (std::size_t c = 0; c < d; ++c)
                        out[c] += rows.back().back()[j] * entries[j].v[c];
                attended.insert(attended.end(), out.begin(), out.end());
            }
            if (attention_out)
                attention_out->push_back(attended);
            add(x, times(p + "self_attn.o_proj.weight", attended));
            const Row m = norm(x, p + "post_attention_layernorm.weight");
            Row gate = times(p + "mlp.gate_proj.weight", m);
            const Row up = times(p + "mlp.up_proj.weight", m);
            for (std::size_t i = 0; i < gate.size(); ++i)
                gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
            add(x, times(p + "mlp.down_proj.weight", gate));
        }
        if (logits)
            *logits = times("lm_head.weight", norm(x, "model.norm.weight"));
        return rows;
    }

private:
    static Row head(const Row& x, std::size_t h, std::size_t d) {
        return {x.begin() + std::ptrdiff_t(h * d), x.begin() + std::ptrdiff_t((h + 1) * d)};
    }
    static void add(Row& x, const Row& y) {
        for (std::size_t i = 0; i < x.size(); ++i)
            x[i] += y[i];
    }
    static Row attention(const Row& q, const Entries& entries) {
        Row a;
        for (const Entry& e : entries) {
            double dot = 0;
            for (std::size_t c = 0; c < q.size(); ++c)
                dot += q[c] * e.k[c];
            a.push_back(dot / std::sqrt(double(q.size())));
        }
        const double max = *std::max_element(a.begin(), a.end());
        double sum = 0;
        for (double& s : a)
            sum += s = std::exp(s - max);
        for (double& s : a)
            s /= sum;
        return a;
    }
    Row turned(const Row& x, int position) const {
        const std::size_t half = x.size() / 2;
        Row y(x.size());
        for (std::size_t j = 0; j < half; ++j) {
            const float angle = float(position) * inv_freq_[j];
            const double c = std::cos(double(angle)), s = std::sin(double(angle));
            y[j] = x[j] * c - x[j + half] * s;
            y[j + half] = x[j + half] * c + x[j] * s;
        }
        return y;
    }
    Row norm(const Row& x, const std::string& weight) const {
        return rms_norm(x, weights_.at(weight), double(config_.rms_eps));
    }
    Row times(const std::string& weight, const Row& x) const {
        const std::vector<float>& w = weights_.at(weight);
        Row y(w.size() / x.size());
        for (std::size_t o = 0; o < y.size(); ++o)
            for (std::size_t i = 0; i < x.size(); ++i)
                y[o] += double(w[o * x.size() + i]) * x[i];
        return y;
    }

    ModelConfig config_;
    std::vector<float> inv_freq_;
    std::map<std::string, std::vector<float>> weights_;
};

}  // namespace cake::reference
