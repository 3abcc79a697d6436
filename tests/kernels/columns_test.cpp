#include <limits>

#include <gmock/gmock.h>

#include "support/backends.h"
#include "support/near.h"
#include "support/reference.h"

namespace cake {
namespace {

struct Case {
    std::int64_t n_q, n_kv, d, S;
    DType dtype;
};

// q: [S, n_q, d]; k: [n_kv, S, d], put into a scratch with room. As in a prompt, keys after a chunk are not there yet when
// it passes: NaN, which nothing may read.
std::vector<float> column_sums(Backend& dev, DType activations, const Case& c,
                               const std::vector<float>& q, const std::vector<float>& k,
                               std::int64_t chunk) {
    const std::int64_t capacity = c.S + 3;
    const Tensor q_dev = upload(dev, q, {c.S, c.n_q, c.d}, activations);
    const Tensor sums = dev.tensor(DType::F32, {c.n_q, c.S});
    dev.fill_zero({}, sums);
    for (std::int64_t first = 0; first < c.S; first += chunk) {
        const std::int64_t n = std::min(chunk, c.S - first);
        std::vector<float> keys(std::size_t(c.n_kv * capacity * c.d),
                                std::numeric_limits<float>::quiet_NaN());
        for (std::int64_t g = 0; g < c.n_kv; ++g)
            std::copy_n(k.begin() + g * c.S * c.d, (first + n) * c.d,
                        keys.begin() + g * capacity * c.d);
        dev.column_sums({}, q_dev.view().rows(first, n),
                        upload(dev, keys, {c.n_kv, capacity, c.d}, c.dtype), first, sums);
    }
    return download<float>(dev, sums);
}

std::vector<float> queries(const Case& c, DType activations) {
    return random_values(c.S * c.n_q * c.d, 1, activations);
}
std::vector<float> keys(const Case& c) { return random_values(c.n_kv * c.S * c.d, 2, c.dtype); }

constexpr std::int64_t kWhole = std::numeric_limits<std::int64_t>::max();

class ColumnSums : public OnEachBackend {
protected:
    std::vector<float> run(const Case& c, std::int64_t chunk = kWhole) {
        return column_sums(dev(), activations(), c, queries(c, activations()), keys(c), chunk);
    }
};
CAKE_ON_EACH_BACKEND(ColumnSums);

TEST_P(ColumnSums, AgreeWithTheReference) {
    // Groups of 1, 3 and 7; heads of many widths; prompts around the borders of key blocks and of rows of a task.
    for (const auto& [n_q, n_kv, d] :
         {std::array{2, 2, 64}, std::array{9, 3, 64}, std::array{7, 1, 40}, std::array{2, 1, 128},
          std::array{4, 1, 8}, std::array{1, 1, 20}})
        for (const DType dtype : {DType::F32, DType::BF16})
            for (const int S : small()
                                   ? std::vector{1, 9, 31, 64, 129, 200}
                                   : std::vector{1, 2, 9, 23, 24, 25, 47, 48, 49, 97, 257, 400}) {
                const Case c{n_q, n_kv, d, S, dtype};
                SCOPED_TRACE(fmt::format("{} over {} heads of {}, {} tokens, {}", n_q, n_kv, d, S,
                                         name(dtype)));
                std::vector<double> want;
                for (const auto& row :
                     reference::column_sums(queries(c, activations()), keys(c), std::size_t(S),
                                            std::size_t(n_q), std::size_t(n_kv), std::size_t(d)))
                    want.insert(want.end(), row.begin(), row.end());
                // As the window's probabilities, and a rounding for each row that is added.
                EXPECT_THAT(run(c), NearTo(want, {.abs = 1e-12, .rel = 4e-5}));
            }
}

TEST_P(ColumnSums, AreTheSameBitsHoweverThePromptIsCut) {
    for (const DType dtype : {DType::F32, DType::BF16}) {
        const Case c = small() ? Case{2, 1, 64, 135, dtype} : Case{6, 2, 64, 211, dtype};
        const std::vector<float> whole = run(c);
        for (const std::int64_t chunk :
             {std::int64_t(1), std::int64_t(7), std::int64_t(64), c.S - 1})
            EXPECT_EQ(run(c, chunk), whole) << "chunks of " << chunk << ", " << name(dtype);
    }
}

TEST_P(ColumnSums, OfAPromptAddUpToItsTokens) {
    for (const DType dtype : {DType::F32, DType::BF16}) {
        const Case c{4, 2, 32, small() ? 400 : 1000, dtype};
        const std::vector<float> sums = run(c, 300);
        for (int h = 0; h < 4; ++h)
            EXPECT_NEAR(std::accumulate(sums.begin() + h * c.S, sums.begin() + (h + 1) * c.S, 0.0),
                        double(c.S), 1e-3)
                << "each row of attention is 1, " << name(dtype);
    }
}

TEST_P(ColumnSums, GoOnFromWhatIsThereAndLeaveLaterColumnsAlone) {
    // Equal scores: row i gives 1 / (i + 1) to each of the keys it sees.
    const Case c{1, 1, 8, 3, DType::F32};
    const Tensor q = upload(dev(), std::vector<float>(16, 0.0f), {2, 1, 8}, activations());
    const Tensor k = upload(dev(), keys(c), {1, 3, 8});
    const Tensor sums = upload(dev(), std::vector<float>{10, 20, 30, 40}, {1, 4});
    dev().column_sums(stream, q, k, 1, sums);
    EXPECT_THAT(
        download<float>(dev(), sums),
        NearTo({10 + 1 / 2.0 + 1 / 3.0, 20 + 1 / 2.0 + 1 / 3.0, 30 + 1 / 3.0, 40}, {.rel = 1e-6}));
}

TEST(ColumnSumsOnCpu, AreTheSameBitsOnAnyNumberOfThreads) {
    const Case c{6, 2, 64, 1500, DType::BF16};
    const auto q = queries(c, DType::F32), k = keys(c);
    const auto one = column_sums(*make_cpu_backend(1), DType::F32, c, q, k, 700);
    for (const int threads : {2, 3, 5})
        EXPECT_EQ(column_sums(*make_cpu_backend(threads), DType::F32, c, q, k, 700), one);
}

}  // namespace
}  // namespace cake
