#include <numeric>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cache/page_pool.h"
#include "cache/sequence_cache.h"

namespace cake::test {
namespace {

using testing::ElementsAre;

constexpr PageLayout layout{.n_kv = 2, .page_tokens = 4, .d_head = 8, .dtype = DType::F32};
constexpr Stream stream{};

class Cache : public testing::Test {
protected:
    std::unique_ptr<Backend> dev = make_cpu_backend(1);
    PagePool pool{*dev, layout, 16};
    Tensor k = dev->tensor(DType::F32, {2, 20, 8}), v = dev->tensor(DType::F32, {2, 20, 8});

    void SetUp() override {
        dev->fill_zero(stream, k);
        dev->fill_zero(stream, v);
    }
    Tensor keep(std::vector<std::int32_t> positions) {
        Tensor t = dev->tensor(DType::I32, {2, std::int64_t(positions.size()) / 2});
        std::copy(positions.begin(), positions.end(), t.span<std::int32_t>().begin());
        return t;
    }
};

TEST_F(Cache, KeepsTheWindowAndTheBestTokensOfEachHead) {
    SequenceCache cache(pool, 1);
    cache.store(*dev, stream, 0, k, v, 3, keep({5, 2, 9, 0, 1, 16}));
    cache.order(*dev, stream, DecodeOrder::Position);
    EXPECT_EQ(cache.length(0), 6);
    EXPECT_THAT(cache.positions(*dev, stream, 0),
                ElementsAre(ElementsAre(2, 5, 9, 17, 18, 19), ElementsAre(0, 1, 16, 17, 18, 19)));
}

TEST_F(Cache, TruncationDropsTheWorstAndHandsBackTailPages) {
    SequenceCache cache(pool, 1);
    cache.store(*dev, stream, 0, k, v, 3, keep({5, 2, 9, 0, 1, 16}));
    EXPECT_EQ(pool.in_use(), 2);
    cache.truncate(0, 4);
    EXPECT_EQ(cache.length(0), 6) << "more than it holds";
    cache.truncate(0, 1);
    EXPECT_EQ(pool.in_use(), 1);
    EXPECT_EQ(pool.high_water(), 2);
    cache.order(*dev, stream, DecodeOrder::Position);
    EXPECT_THAT(cache.positions(*dev, stream, 0),
                ElementsAre(ElementsAre(5, 17, 18, 19), ElementsAre(0, 17, 18, 19)));
    cache.truncate(0, 0);
    EXPECT_EQ(cache.length(0), 3) << "the window stays";
}

TEST_F(Cache, ReturnsAllPagesWhenItEnds) {
    {
        SequenceCache cache(pool, 2);
        cache.store(*dev, stream, 0, k, v, 20, keep({}));
        cache.resize(*dev, stream, 0, 21);
        cache.store(*dev, stream, 1, k, v, 3, keep({5, 0}));
        EXPECT_EQ(pool.in_use(), 7);
    }
    EXPECT_EQ(pool.in_use(), 0);
}

TEST_F(Cache, ThrowsWhereNoPageIsFree) {
    SequenceCache cache(pool, 4);
    for (int l = 0; l < 3; ++l)
        cache.store(*dev, stream, l, k, v, 20, keep({}));
    EXPECT_THROW(cache.store(*dev, stream, 3, k, v, 20, keep({})), Error);
}

// 10,000 random operations on several sequences: the pool's books are those of a plain model.
TEST_F(Cache, KeepsTheBooksOverRandomOperations) {
    std::mt19937_64 random(3);
    auto pick = [&](int n) { return int(random() % std::uint64_t(n)); };
    PagePool large(*dev, layout, 400);
    constexpr int L = 2;
    struct Sequence {
        std::unique_ptr<SequenceCache> cache;
        std::vector<int> slots;
    };
    std::vector<Sequence> live;
    int high = 0;
    for (int i = 0; i < 10000; ++i) {
        const int what = pick(8);
        if (what == 0 && live.size() < 20) {
            Sequence s{std::make_unique<SequenceCache>(large, L), {}};
            for (int l = 0; l < L; ++l) {
                const int window = 1 + pick(10), b = pick(10);
                std::vector<std::int32_t> kept(std::size_t(2 * b));
                for (int h = 0; h < 2; ++h)
                    std::iota(kept.begin() + h * b, kept.begin() + (h + 1) * b, 0);
                s.cache->store(*dev, stream, l, k, v, window, keep(kept));
                s.slots.push_back(window + b);
            }
            live.push_back(std::move(s));
        } else if (live.empty()) {
            continue;
        } else if (what == 1) {
            live.erase(live.begin() + pick(int(live.size())));
        } else {
            Sequence& s = live[std::size_t(pick(int(live.size())))];
            const int l = pick(L);
            const int length = s.cache->length(l);
            if (what < 5) {
                const int budget = pick(10);
                s.cache->truncate(l, budget);
                const int left = std::min(length, s.cache->window(l) + budget);
                ASSERT_EQ(s.cache->length(l), left);
                s.slots[std::size_t(l)] = left;
            } else if (length < 30) {
                s.cache->resize(*dev, stream, l, length + 1);
                s.cache->set_length(l, length + 1);
                s.slots[std::size_t(l)] = length + 1;
            }
        }
        int pages = 0;
        std::vector<bool> taken(400);
        for (const Sequence& s : live)
            for (int l = 0; l < L; ++l) {
                ASSERT_EQ(int(s.cache->pages(l).size()), layout.pages_for(s.slots[std::size_t(l)]));
                for (std::int32_t page : s.cache->pages(l)) {
                    ASSERT_FALSE(taken[std::size_t(page)]) << "a page belongs to two layers";
                    taken[std::size_t(page)] = true;
                    ++pages;
                }
            }
        ASSERT_EQ(large.in_use(), pages);
        high = std::max(high, pages);
    }
    EXPECT_GE(large.high_water(), high);
    live.clear();
    EXPECT_EQ(large.in_use(), 0);
}

}  // namespace
}  // namespace cake::test
