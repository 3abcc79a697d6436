// A transformer block in double, by plain loops: what the kernels of prefill are judged by.
// Symbols: x activations, W weights [out, in], d = d_head, pos a token's position.
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace cake::reference {

using Row = std::vector<double>;

inline std::vector<double> widened(std::span<const float> x) { return {x.begin(), x.end()}; }

// y[r, o] = sum_i x[r, i] W[o, i] + b[o].  b may be empty.
inline std::vector<double> linear(std::span<const float> x, std::span<const float> W,
                                  std::span<const float> b, std::size_t n, std::size_t in,
                                  std::size_t out) {
    std::vector<double> y(n * out);
    for (std::size_t r = 0; r < n; ++r)
        for (std::size_t o = 0; o < out; ++o) {
            double sum = b.empty() ? 0.0 : double(b[o]);
            for (std::size_t i = 0; i < in; ++i)
                sum += double(x[r * in + i]) * double(W[o * in + i]);
            y[r * out + o] = sum;
        }
    return y;
}

// y[r, i] = x[r, i] / sqrt(mean_i x[r, i]^2 + eps) * weight[i].
inline std::vector<double> rms_norm(std::span<const double> x, std::span<const float> weight,
                                    double eps) {
    const std::size_t d = weight.size();
    std::vector<double> y(x.size());
    for (std::size_t r = 0; r < x.size() / d; ++r) {
        double squares = 0;
        for (std::size_t i = 0; i < d; ++i)
            squares += x[r * d + i] * x[r * d + i];
        const double rms = std::sqrt(squares / double(d) + eps);
        for (std::size_t i = 0; i < d; ++i)
            y[r * d + i] = x[r * d + i] / rms * double(weight[i]);
    }
    return y;
}

// y[r, i] = silu(x[r, i]) * x[r, ff + i],  silu(z) = z / (1 + e^-z).
inline std::vector<double> silu_mul(std::span<const float> gate_up, std::size_t ff) {
    std::vector<double> y;
    for (std::size_t r = 0; r < gate_up.size() / (2 * ff); ++r)
        for (std::size_t i = 0; i < ff; ++i) {
            const double gate = gate_up[2 * r * ff + i], up = gate_up[(2 * r + 1) * ff + i];
            y.push_back(gate / (1 + std::exp(-gate)) * up);
        }
    return y;
}

// One head's vector, turned to position pos: the pair (j, j + d/2) by the angle pos * inv_freq[j].
// The angle is the F32 product, as the models compute it: at position 10^5 its rounding turns the
// pair by some 10^-3.
inline Row rope(std::span<const float> x, std::span<const float> inv_freq, std::size_t pos,
                double scale) {
    const std::size_t half = x.size() / 2;
    Row y(x.size());
    for (std::size_t j = 0; j < half; ++j) {
        const float angle = float(pos) * inv_freq[j];
        const double c = std::cos(double(angle)) * scale, s = std::sin(double(angle)) * scale;
        y[j] = double(x[j]) * c - double(x[j + half]) * s;
        y[j + half] = double(x[j + half]) * c + double(x[j]) * s;
    }
    return y;
}

// Causal attention of queries at first .. first + n; query head h reads KV head h / (n_q / n_kv).
// q: [n, n_q, d]; k, v: [n_kv, capacity, d]. Returns [n, n_q, d].
inline std::vector<double> attention(std::span<const float> q, std::span<const float> k,
                                     std::span<const float> v, std::size_t first, std::size_t n,
                                     std::size_t n_q, std::size_t n_kv, std::size_t d) {
    const std::size_t capacity = k.size() / (n_kv * d);
    std::vector<double> out(n * n_q * d);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t h = 0; h < n_q; ++h) {
            const std::size_t kv_head = h / (n_q / n_kv), n_keys = first + i + 1;
            const float* keys = &k[kv_head * capacity * d];
            const float* values = &v[kv_head * capacity * d];
            Row a(n_keys);
            double max = -INFINITY, sum = 0;
            for (std::size_t j = 0; j < n_keys; ++j) {
                for (std::size_t c = 0; c < d; ++c)
                    a[j] += double(q[(i * n_q + h) * d + c]) * double(keys[j * d + c]);
                a[j] /= std::sqrt(double(d));
                max = std::fmax(max, a[j]);
            }
            for (double& p : a)
                sum += p = std::exp(p - max);
            for (std::size_t j = 0; j < n_keys; ++j)
                for (std::size_t c = 0; c < d; ++c)
                    out[(i * n_q + h) * d + c] += a[j] / sum * double(values[j * d + c]);
        }
    return out;
}

}  // namespace cake::reference
