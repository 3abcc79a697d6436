#include <algorithm>
#include <cmath>
#include <limits>

#include <gmock/gmock.h>

#include "support/backends.h"
#include "support/reference.h"

namespace cake {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

class TopK : public OnEachBackend {
protected:
    std::vector<std::int32_t> top(const std::vector<float>& score, std::int64_t n_kv,
                                  std::int64_t k) {
        const std::int64_t n = std::int64_t(score.size()) / n_kv;
        const Tensor scores = upload(dev(), score, {n_kv, n});
        const Tensor keep = dev().tensor(DType::I32, {n_kv, k});
        dev().top_k(stream, scores, keep);
        return download<std::int32_t>(dev(), keep);
    }
};
CAKE_ON_EACH_BACKEND(TopK);

TEST_P(TopK, ListsTheBestFirst) {
    EXPECT_THAT(top({0.5f, 3.0f, -1.0f, 2.0f}, 1, 3), ElementsAre(1, 3, 0));
}

TEST_P(TopK, GivesTiesToTheLowerPosition) {
    EXPECT_THAT(top({1, 2, 2, 2, 1, 2}, 1, 2), ElementsAre(1, 2));
    EXPECT_THAT(top({1, 2, 2, 2, 1, 2}, 1, 5), ElementsAre(1, 2, 3, 5, 0));
    EXPECT_THAT(top(std::vector<float>(300, 0.25f), 1, 4), ElementsAre(0, 1, 2, 3));
    EXPECT_THAT(top({-0.0f, 0.0f, -0.0f}, 1, 2), ElementsAre(0, 1));
}

TEST_P(TopK, KeepsNothingForABudgetOfNothing) {
    EXPECT_THAT(top({1, 2, 3, 4}, 2, 0), ElementsAre());
}

TEST_P(TopK, SortsAllForABudgetOfEverything) {
    EXPECT_THAT(top({1, 2, 3, 6, 5, 4}, 2, 3), ElementsAre(2, 1, 0, 0, 1, 2));
}

TEST_P(TopK, OrdersNegativeAndInfiniteScores) {
    const float inf = std::numeric_limits<float>::infinity();
    EXPECT_THAT(top({-1, -inf, 1e-40f, -2, inf, 0}, 1, 6), ElementsAre(4, 2, 5, 0, 3, 1));
}

TEST_P(TopK, PutsNaNAfterEverything) {
    const float inf = std::numeric_limits<float>::infinity(),
                nan = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THAT(top({nan, 1, -nan, -inf, nan}, 1, 5), ElementsAre(1, 3, 0, 2, 4));
    EXPECT_THAT(top({nan, 1, -nan, -inf, nan}, 1, 3), ElementsAre(1, 3, 0));
}

TEST_P(TopK, AgreesWithAStableSort) {
    std::mt19937 random(1);
    const std::vector<std::int64_t> all{1, 2, 31, 32, 33, 255, 256, 257, 1000, 5000},
        some{1, 33, 257, 4500};
    for (const std::int64_t n : small() ? some : all)
        for (const std::int64_t k : {std::int64_t(0), std::int64_t(1), n / 3, n / 2, n - 1, n})
            for (const int different :
                 {3, 50, 1 << 24}) {  // with many ties, some, and next to none
                SCOPED_TRACE(fmt::format("{} of {}, {} different", k, n, different));
                std::vector<float> score;
                std::vector<std::int32_t> want;
                for (int g = 0; g < 3; ++g) {
                    std::vector<float> row;
                    for (std::int64_t i = 0; i < n; ++i)
                        row.push_back(float(random() % unsigned(different)) / 1024);
                    score.insert(score.end(), row.begin(), row.end());
                    const auto order = reference::top_order(row, std::size_t(k));
                    want.insert(want.end(), order.begin(), order.end());
                }
                EXPECT_THAT(top(score, 3, k), ElementsAreArray(want));
            }
}

TEST_P(TopK, SortsManyWinnersToo) {
    const std::vector<float> score = random_values(9000, 4);
    EXPECT_EQ(top(score, 1, 8500), reference::top_order(score, 8500));
}

TEST_P(TopK, SelectsFromTheLongestPrompt) {
    std::vector<float> score = random_values(2 * 131072, 3);
    std::vector<std::int32_t> want;
    for (int g = 0; g < 2; ++g) {
        const std::vector<float> row(score.begin() + g * 131072, score.begin() + (g + 1) * 131072);
        const auto order = reference::top_order(row, 992);
        want.insert(want.end(), order.begin(), order.end());
    }
    EXPECT_EQ(top(score, 2, 992), want);
}

class Argmax : public OnEachBackend {
protected:
    // The index of each row's best, columns counted from `first`.
    std::vector<std::uint32_t> best(const std::vector<float>& x, std::int64_t rows,
                                    std::int64_t first = 0) {
        std::vector<std::uint32_t> out;
        for (const std::uint64_t key : keys(x, rows, first))
            out.push_back(std::uint32_t(key));
        return out;
    }
    std::vector<std::uint64_t> keys(const std::vector<float>& x, std::int64_t rows,
                                    std::int64_t first) {
        const Tensor values = upload(dev(), x, {rows, std::int64_t(x.size()) / rows});
        const Tensor found = dev().tensor(DType::I64, {rows});
        dev().argmax(stream, values, first, found);
        const auto signed_keys = download<std::int64_t>(dev(), found);
        return {signed_keys.begin(), signed_keys.end()};
    }
};
CAKE_ON_EACH_BACKEND(Argmax);

TEST_P(Argmax, FindsEachRowsLargestValue) {
    EXPECT_THAT(best({1, 3, 2, -1, -3, -2}, 2), ElementsAre(1, 0));
    EXPECT_THAT(best({7}, 1), ElementsAre(0));
    EXPECT_THAT(best({1, 3, 2}, 1, 128000), ElementsAre(128001));
}

TEST_P(Argmax, GivesTiesToTheLowerIndexAndPutsNaNLast) {
    const float inf = std::numeric_limits<float>::infinity(),
                nan = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THAT(best({1, 2, 2, 0, -0.0f, 0.0f, -1, -1}, 2), ElementsAre(1, 0));
    EXPECT_THAT(best({nan, -inf, nan, nan, inf, inf, nan, nan, nan}, 3), ElementsAre(1, 1, 0));
}

TEST_P(Argmax, AgreesWithTheFirstLargestElement) {
    for (const std::int64_t n : {1, 31, 32, 33, 1000, 1023, 1025, 5000}) {
        std::vector<float> x = random_values(3 * n, unsigned(n));
        for (float& value : x)
            value = std::round(4 * value) / 4;  // so that some are equal
        std::vector<std::uint32_t> want;
        for (int r = 0; r < 3; ++r) {
            const auto row = x.begin() + r * n;
            want.push_back(std::uint32_t(std::max_element(row, row + n) - row));
        }
        EXPECT_EQ(best(x, 3), want) << n;
    }
}

TEST_P(Argmax, OfPartsIsThatOfTheWhole) {
    constexpr std::int64_t n = 700, cut = 300;
    std::vector<float> x = random_values(n, 5);
    for (float& value : x)
        value = std::round(value);
    const std::vector<float> left(x.begin(), x.begin() + cut), right(x.begin() + cut, x.end());
    EXPECT_EQ(std::min(keys(left, 1, 0)[0], keys(right, 1, cut)[0]), keys(x, 1, 0)[0]);
}

}  // namespace
}  // namespace cake
