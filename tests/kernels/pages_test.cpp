#include <gmock/gmock.h>

#include "support/paged_cache.h"

namespace cake {
namespace {

using test::PagedCache;
using testing::ElementsAre;
using testing::ElementsAreArray;

class Pages : public OnEachBackend {
protected:
    // n_kv heads of keys and values that differ everywhere, [n_kv, S, d].
    struct Scratch {
        std::vector<float> k, v;
    };
    Scratch scratch(const PageLayout& layout, std::int64_t S) {
        const std::int64_t n = layout.n_kv * S * layout.d_head;
        return {random_values(n, 1, layout.dtype), random_values(n, 2, layout.dtype)};
    }
    void store(PagedCache& cache, const PageLayout& layout, const Scratch& from, std::int64_t first,
               std::int64_t count, const std::vector<std::int32_t>& keep) {
        const std::int64_t S = std::int64_t(from.k.size()) / (layout.n_kv * layout.d_head);
        const Tensor k = upload(dev(), from.k, {layout.n_kv, S, layout.d_head}, layout.dtype);
        const Tensor v = upload(dev(), from.v, {layout.n_kv, S, layout.d_head}, layout.dtype);
        const Shape shape{layout.n_kv, std::int64_t(keep.size()) / layout.n_kv};
        const Tensor kept =
            keep.empty() ? dev().tensor(DType::I32, shape) : upload(dev(), keep, shape);
        dev().store_tokens(stream, k, v, first, count, kept, {}, cache.list(0, 0));
        cache.pull();
    }
};
CAKE_ON_EACH_BACKEND(Pages);

TEST_P(Pages, HoldTheWindowThenTheKeptTokensOfEachHead) {
    std::mt19937 random(3);
    for (const int page_tokens : {16, 64, 7})
        for (const DType dtype : {DType::F32, DType::BF16})
            for (const int w : {1, 8, 32})
                for (const int b : {0, 1, 2, 37}) {
                    const PageLayout layout{3, page_tokens, 8, dtype};
                    const int S = 100;
                    SCOPED_TRACE(fmt::format("pages of {}, {}, window {}, budget {}", page_tokens,
                                             name(dtype), w, b));
                    PagedCache cache(dev(), layout, 1, 1, layout.pages_for(w + b) + 1);
                    const Scratch from = scratch(layout, S);
                    std::vector<std::int32_t> keep;
                    for (int i = 0; i < 3 * b; ++i)
                        keep.push_back(std::int32_t(random() % unsigned(S - w)));
                    store(cache, layout, from, S - w, w, keep);
                    for (int g = 0; g < 3; ++g) {
                        for (int slot = 0; slot < w + b; ++slot) {
                            const int token =
                                slot < w ? S - w + slot : keep[std::size_t(g * b + slot - w)];
                            const auto at = std::ptrdiff_t(g * S + token) * 8;
                            EXPECT_EQ(cache.pages(0, 0).position(g, slot), token);
                            EXPECT_THAT(
                                cache.key(0, 0, g, slot),
                                ElementsAreArray(from.k.begin() + at, from.k.begin() + at + 8));
                            EXPECT_THAT(
                                cache.value(0, 0, g, slot),
                                ElementsAreArray(from.v.begin() + at, from.v.begin() + at + 8));
                        }
                        EXPECT_EQ(cache.pages(0, 0).position(g, w + b), -1)
                            << "a slot that was not asked for";
                    }
                }
}

TEST_P(Pages, TakeAWholePrompt) {
    const PageLayout layout{2, 16, 8, DType::F32};
    PagedCache cache(dev(), layout, 1, 1, 4);
    store(cache, layout, scratch(layout, 50), 0, 50, {});
    dev().order_slots(stream, cache.list(0, 0), 50, 50, DecodeOrder::Position);
    const Tensor positions = dev().tensor(DType::I32, {2, 50});
    dev().list_positions(stream, cache.list(0, 0), 50, positions);
    const auto got = download<std::int32_t>(dev(), positions);
    for (int i = 0; i < 100; ++i)
        EXPECT_EQ(got[std::size_t(i)], i % 50);
}

TEST_P(Pages, ListSlotsByAscendingPosition) {
    const PageLayout layout{2, 4, 8, DType::F32};
    PagedCache cache(dev(), layout, 1, 1, 3);
    store(cache, layout, scratch(layout, 20), 18, 2, {3, 9, 1, 12, 0, 17});
    dev().order_slots(stream, cache.list(0, 0), 5, 2, DecodeOrder::Position);
    cache.pull();
    EXPECT_THAT(cache.order(0, 0, 0), ElementsAre(4, 2, 3, 0, 1, 5, 6, 7, 8, 9, 10, 11));
    EXPECT_THAT(cache.order(0, 0, 1), ElementsAre(3, 2, 4, 0, 1, 5, 6, 7, 8, 9, 10, 11));
    EXPECT_THAT(cache.listed_positions(0, 0, 1, 5), ElementsAre(0, 12, 17, 18, 19));
}

TEST_P(Pages, TakeTheRunningSumsOfWhatTheyHoldAlong) {
    const PageLayout layout{
        .n_kv = 2, .page_tokens = 4, .d_head = 8, .dtype = DType::BF16, .running = true};
    PageLayout without = layout;
    without.running = false;
    EXPECT_GE(layout.bytes(), without.bytes() + 2 * 4 * sizeof(float));
    PagedCache cache(dev(), layout, 1, 1, 2);
    const Scratch from = scratch(layout, 20);
    const Tensor k = upload(dev(), from.k, {2, 20, 8}, layout.dtype);
    const Tensor v = upload(dev(), from.v, {2, 20, 8}, layout.dtype);
    const Tensor keep = upload(dev(), std::vector<std::int32_t>{3, 9, 1, 12, 0, 17}, Shape{2, 3});
    const std::vector<float> sums = random_values(2 * 20, 3);
    dev().store_tokens(stream, k, v, 18, 2, keep, upload(dev(), sums, {2, 20}), cache.list(0, 0));
    cache.pull();
    for (int g = 0; g < 2; ++g)
        for (int slot = 0; slot < 5; ++slot) {
            const int token = cache.pages(0, 0).position(g, slot);
            EXPECT_EQ(cache.pages(0, 0).running(g, slot), sums[std::size_t(g * 20 + token)]);
        }
}

TEST_P(Pages, ListSlotsAsTheOfficialCacheOrdersThem) {
    const PageLayout layout{1, 4, 8, DType::F32};
    PagedCache cache(dev(), layout, 1, 1, 2);
    store(cache, layout, scratch(layout, 20), 18, 2, {3, 9, 1});
    dev().order_slots(stream, cache.list(0, 0), 5, 2, DecodeOrder::Official);
    cache.pull();
    EXPECT_THAT(cache.order(0, 0, 0), ElementsAre(2, 3, 4, 0, 1, 5, 6, 7));
    EXPECT_THAT(cache.listed_positions(0, 0, 0, 5), ElementsAre(3, 9, 1, 18, 19))
        << "best first, then the window";
}

TEST_P(Pages, TellPositionsInTheOrderOfTheList) {
    const PageLayout layout{2, 4, 8, DType::F32};
    PagedCache cache(dev(), layout, 1, 1, 2);
    store(cache, layout, scratch(layout, 20), 18, 2, {3, 9, 1, 12, 0, 17});
    const Tensor out = dev().tensor(DType::I32, {2, 5});
    dev().order_slots(stream, cache.list(0, 0), 5, 2, DecodeOrder::Position);
    dev().list_positions(stream, cache.list(0, 0), 5, out);
    EXPECT_THAT(download<std::int32_t>(dev(), out),
                ElementsAre(1, 3, 9, 18, 19, 0, 12, 17, 18, 19));
    dev().order_slots(stream, cache.list(0, 0), 5, 2, DecodeOrder::Official);
    dev().list_positions(stream, cache.list(0, 0), 5, out);
    EXPECT_THAT(download<std::int32_t>(dev(), out),
                ElementsAre(3, 9, 1, 18, 19, 12, 0, 17, 18, 19));
}

TEST_P(Pages, ListATruncatedLayerWithoutWhatItLost) {
    const PageLayout layout{1, 4, 8, DType::F32};
    PagedCache cache(dev(), layout, 1, 1, 2);
    store(cache, layout, scratch(layout, 20), 18, 2, {9, 3, 1, 4});
    dev().order_slots(stream, cache.list(0, 0), 4, 2, DecodeOrder::Position);
    cache.pull();
    EXPECT_THAT(cache.order(0, 0, 0), ElementsAre(3, 2, 0, 1, 4, 5, 6, 7));
}

TEST_P(Pages, StartInOrderWhereDecodingAddsThem) {
    const PageLayout layout{2, 4, 8, DType::F32};
    PagedCache cache(dev(), layout, 1, 2, 3);
    dev().init_page(stream, cache.list(0, 1), 1);
    cache.pull();
    for (int g = 0; g < 2; ++g) {
        EXPECT_THAT(cache.order(0, 1, g), ElementsAre(-1, -1, -1, -1, 4, 5, 6, 7, -1, -1, -1, -1));
        EXPECT_THAT(cache.order(0, 0, g), testing::Each(-1)) << "another sequence";
    }
}

}  // namespace
}  // namespace cake
