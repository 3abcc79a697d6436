// The backends over which one test body runs, and how its data get to a backend and back.
//
//   class RmsNorm : public OnEachBackend {};
//   TEST_P(RmsNorm, DividesByTheRootOfTheMeanSquare) { ... dev(), upload, download ... }
//   CAKE_ON_EACH_BACKEND(RmsNorm);
#pragma once

#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/backend.h"

namespace cake {

struct BackendCase {
    std::string name;
    std::unique_ptr<Backend> (*make)();
    DType activations;  // what kernels take for x, q, out, ...
    // Weights of linear layers, and tables of embeddings.
    std::vector<DType> linear_types, table_types;
    bool small = false;      // kernels are slow, on the host or under a sanitizer, and shapes small
    bool exact_rows = true;  // a row of a linear layer has the same bits alone and among others
};

inline void PrintTo(const BackendCase& backend, std::ostream* out) { *out << backend.name; }

// What a test program runs over is settled when it is linked: tests/backends/compiled.cpp (the CPU, and a GPU where there is
// one) or tests/backends/emulated.cpp (the CUDA backend on the host).
std::vector<BackendCase> backend_cases();

class OnEachBackend : public testing::TestWithParam<BackendCase> {
protected:
    Backend& dev() { return *dev_; }
    DType activations() const { return GetParam().activations; }
    const std::vector<DType>& linear_types() const { return GetParam().linear_types; }
    bool small() const { return GetParam().small; }
    const std::vector<DType>& table_types() const { return GetParam().table_types; }
    const Stream stream;

private:
    std::unique_ptr<Backend> dev_ = GetParam().make();
};

#define CAKE_ON_EACH_BACKEND(fixture)                                               \
    INSTANTIATE_TEST_SUITE_P(, fixture, testing::ValuesIn(::cake::backend_cases()), \
                             [](const auto& info) { return info.param.name; })

// `values`, rounded to dtype (F32, BF16 or F16), in the backend's memory.
inline Tensor upload(Backend& dev, std::span<const float> values, Shape shape,
                     DType dtype = DType::F32) {
    Tensor host = Tensor::host(dtype, shape);
    CAKE_CHECK(std::int64_t(values.size()) == shape.elements(), "{} values for {}", values.size(),
               shape.str());
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (dtype == DType::BF16)
            host.span<bf16>()[i] = to_bf16(values[i]);
        else if (dtype == DType::F16)
            host.span<f16>()[i] = to_f16(values[i]);
        else
            host.span<float>()[i] = values[i];
    }
    Tensor out = dev.tensor(dtype, shape);
    dev.copy({}, out, host);
    dev.synchronize({});
    return out;
}

inline Tensor upload(Backend& dev, std::span<const std::int32_t> values, Shape shape) {
    Tensor host = Tensor::host(DType::I32, shape);
    CAKE_CHECK(std::int64_t(values.size()) == shape.elements(), "{} values for {}", values.size(),
               shape.str());
    std::memcpy(host.view().data(), values.data(), host.bytes());
    Tensor out = dev.tensor(DType::I32, shape);
    dev.copy({}, out, host);
    dev.synchronize({});
    return out;
}

// Elements of T, as they lie in the backend's memory.
template <typename T>
std::vector<T> download(Backend& dev, View x) {
    Tensor host = Tensor::host(x.dtype(), x.shape());
    dev.copy({}, host, x);
    dev.synchronize({});
    const std::span<T> values = host.span<T>();
    return {values.begin(), values.end()};
}

// A float tensor of any type, widened.
inline std::vector<float> download_floats(Backend& dev, View x) {
    std::vector<float> out;
    const auto widen = [&](const auto& values) {
        for (const auto v : values)
            out.push_back(to_float(v));
    };
    switch (x.dtype()) {
        case DType::BF16: widen(download<bf16>(dev, x)); break;
        case DType::F16: widen(download<f16>(dev, x)); break;
        default: widen(download<float>(dev, x));
    }
    return out;
}

// Normal numbers, already rounded to dtype so that uploading loses nothing. One in 64 is 10 times
// as large: activations have outliers, and a softmax without them is nearly flat and tests little.
inline std::vector<float> random_values(std::int64_t n, unsigned seed, DType dtype = DType::F32) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> out(static_cast<std::size_t>(n));
    for (float& x : out) {
        x = normal(random) * (random() % 64 == 0 ? 10.0f : 1.0f);
        if (dtype == DType::BF16)
            x = to_float(to_bf16(x));
        else if (dtype == DType::F16)
            x = to_float(to_f16(x));
    }
    return out;
}

}  // namespace cake
