#include <set>

#include <gmock/gmock.h>

#include "support/near.h"
#include "support/paged_cache.h"
#include "support/reference.h"

namespace cake {
namespace {

using test::PagedCache;
using test::Ragged;
using testing::ElementsAre;

// What a layer of a sequence starts with: `length` entries, of which `window` are the window's.
struct Start {
    int length, budget;
};

// Runs steps of decoding on pages, beside a plain vector of positions for each KV head.
class Decoding {
public:
    static constexpr int kGroup = 2, kHead = 8;

    Decoding(Backend& dev, DecodeOrder order, int n_kv, int window, int page_tokens, DType dtype,
             Shape shape, std::vector<Start> starts, int steps)
        : dev_(dev),
          order_(order),
          n_kv_(n_kv),
          window_(window),
          layers_(int(shape[0])),
          batch_(int(shape[1])),
          starts_(std::move(starts)),
          layout_{n_kv, page_tokens, kHead, dtype},
          cache_(dev, layout_, layers_, batch_, layout_.pages_for(longest() + steps + 1)) {
        std::vector<std::int32_t> lengths, budgets;
        for (std::size_t at = 0; at < starts_.size(); ++at) {
            lengths.push_back(starts_[at].length);
            budgets.push_back(starts_[at].budget);
            fill(at);
        }
        lengths_ = lengths;
        cache_.push();
        cache_.set_lengths(lengths);
        cache_.set_budgets(budgets);
        cache_.set_positions(std::vector<std::int32_t>(std::size_t(batch_), kPrompt - 1));
        for (std::size_t at = 0; at < starts_.size(); ++at)
            dev.order_slots({}, cache_.list(layer(at), sequence(at)), starts_[at].length,
                            std::min(window, starts_[at].length), order);
        cache_.pull();
        for (std::size_t at = 0; at < starts_.size(); ++at)
            for (int g = 0; g < n_kv; ++g)
                plain_.push_back(
                    cache_.listed_positions(layer(at), sequence(at), g, starts_[at].length));
    }

    // A token comes to every layer. Where `scored`, its probabilities are random and scored by decode_scores; else
    // the scores are small integers, full of ties.
    void step(bool scored) {
        dev_.begin_step({}, cache_.batch());
        ++newest_;
        for (std::size_t at = 0; at < starts_.size(); ++at) {
            ++lengths_[at];
            for (int g = 0; g < n_kv_; ++g) {
                const LayerPages pages = cache_.pages(layer(at), sequence(at));
                put(at, g, pages.order(g, lengths_[at] - 1), newest_);
                plain(at, g).push_back(newest_);
            }
        }
        cache_.push();
        const Ragged scores = scored ? scores_of_random_rows() : random_scores();
        const std::vector<float> values = scores.values();
        dev_.decode_evict({}, cache_.batch(), scores.rows(), window_, order_);
        for (std::size_t at = 0; at < starts_.size(); ++at) {
            if (candidates(at) == 0)
                continue;
            for (int g = 0; g < n_kv_; ++g) {
                const auto first =
                    values.begin() + scores.offset(at) + std::ptrdiff_t(g) * candidates(at);
                const std::vector<float> score(first, first + candidates(at));
                std::vector<std::int32_t> left;
                for (std::int32_t i :
                     reference::decode_evict(score, std::size_t(starts_[at].budget),
                                             std::size_t(window_), order_ == DecodeOrder::Position))
                    left.push_back(plain(at, g)[std::size_t(i)]);
                plain(at, g) = left;
            }
        }
        for (std::size_t at = 0; at < starts_.size(); ++at)
            if (candidates(at) > 0)
                lengths_[at] = starts_[at].budget + window_;
        cache_.pull();
        check();
    }

    int length(std::size_t at) const { return lengths_[at]; }

private:
    static constexpr int kPrompt = 1000;

    int longest() const {
        int n = 0;
        for (const Start& s : starts_)
            n = std::max(n, std::max(s.length, s.budget + window_));
        return n;
    }
    int layer(std::size_t at) const { return int(at) / batch_; }
    int sequence(std::size_t at) const { return int(at) % batch_; }
    int candidates(std::size_t at) const {
        const bool evicts = starts_[at].budget >= 0 && lengths_[at] > starts_[at].budget + window_;
        return evicts ? lengths_[at] - window_ : 0;
    }
    std::vector<std::int32_t>& plain(std::size_t at, int g) {
        return plain_[at * std::size_t(n_kv_) + std::size_t(g)];
    }

    // Keys and values tell whose they are: exact also as bf16.
    static float key_of(std::size_t at, int g, int position) {
        return float((int(at) * 7 + g * 3 + position) % 128);
    }
    static float value_of(std::size_t at, int g, int position) {
        return -1 - key_of(at, g, position * 5);
    }
    void put(std::size_t at, int g, int slot, int position) {
        const std::vector<float> k(kHead, key_of(at, g, position)),
            v(kHead, value_of(at, g, position));
        cache_.set_slot(layer(at), sequence(at), g, slot, k.data(), v.data());
        cache_.pages(layer(at), sequence(at)).position(g, slot) = position;
    }
    // The window in the first slots, then older tokens in any order.
    void fill(std::size_t at) {
        for (int g = 0; g < n_kv_; ++g) {
            std::vector<int> older(std::size_t(kPrompt - window_));
            std::iota(older.begin(), older.end(), 0);
            std::shuffle(older.begin(), older.end(), random_);
            const int w = std::min(window_, starts_[at].length);
            for (int slot = 0; slot < starts_[at].length; ++slot)
                put(at, g, slot, slot < w ? kPrompt - w + slot : older[std::size_t(slot)]);
        }
    }

    Ragged random_scores() {
        std::vector<std::int64_t> sizes;
        for (std::size_t at = 0; at < starts_.size(); ++at)
            sizes.push_back(candidates(at) ? std::int64_t(n_kv_) * candidates(at) : -1);
        Ragged scores(dev_, sizes, {layers_, batch_}, n_kv_);
        std::vector<float> values = scores.values();
        for (float& x : values)
            x = float(random_() % 5);
        scores.set(values);
        return scores;
    }

    Ragged scores_of_random_rows() {
        const int n_q = n_kv_ * kGroup;
        std::vector<std::int64_t> row_sizes, score_sizes;
        for (std::size_t at = 0; at < starts_.size(); ++at) {
            row_sizes.push_back(std::int64_t(n_q) * lengths_[at]);
            score_sizes.push_back(candidates(at) ? std::int64_t(n_kv_) * candidates(at) : -1);
        }
        Ragged probs(dev_, row_sizes, {layers_, batch_}, n_q),
            scores(dev_, score_sizes, {layers_, batch_}, n_kv_);
        std::vector<float> values;
        for (float x : random_values(std::int64_t(probs.values().size()), random_()))
            values.push_back(x * x / 100);
        probs.set(values);
        dev_.decode_scores({}, cache_.batch(), probs.rows(), window_, 5, float(kGroup),
                           scores.rows());

        std::int64_t written = 0;
        for (std::size_t at = 0; at < starts_.size(); ++at) {
            if (candidates(at) == 0)
                continue;
            reference::Rows rows;  // in the order of the list of the head's group
            for (int h = 0; h < n_q; ++h) {
                const auto order = cache_.order(layer(at), sequence(at), h / kGroup);
                rows.emplace_back();
                for (int i = 0; i < lengths_[at]; ++i)
                    rows.back().push_back(
                        values[std::size_t(probs.offset(at) + std::int64_t(h) * lengths_[at] +
                                           order[std::size_t(i)])]);
            }
            std::vector<double> want;
            for (const auto& row :
                 reference::decode_scores(rows, std::size_t(window_), 5, std::size_t(n_kv_)))
                want.insert(want.end(), row.begin(), row.end());
            EXPECT_THAT(scores.block(at, score_sizes[at]), NearTo(want, {.rel = 1e-6}));
            written += score_sizes[at];
        }
        const auto all = scores.values();
        EXPECT_EQ(std::int64_t(all.size()) - written,
                  std::count(all.begin(), all.end(), Ragged::kUntouched));
        return scores;
    }

    void check() {
        ASSERT_EQ(cache_.lengths(), lengths_);
        for (std::size_t at = 0; at < starts_.size(); ++at)
            for (int g = 0; g < n_kv_; ++g) {
                const int n = lengths_[at];
                const auto order = cache_.order(layer(at), sequence(at), g);
                ASSERT_EQ(cache_.listed_positions(layer(at), sequence(at), g, n), plain(at, g));
                std::set<std::int32_t> slots(order.begin(), order.begin() + n + 1);
                ASSERT_EQ(slots.size(), std::size_t(n) + 1) << "a slot that is listed twice";
                ASSERT_EQ(*slots.rbegin(), n) << "the first slots hold it but for one hole";
                for (std::size_t i = std::size_t(n) + 1; i < order.size(); ++i)
                    ASSERT_EQ(order[i], std::int32_t(i));
                for (int i = 0; i < n; ++i) {
                    const int slot = order[std::size_t(i)], position = plain(at, g)[std::size_t(i)];
                    ASSERT_THAT(cache_.key(layer(at), sequence(at), g, slot),
                                testing::Each(key_of(at, g, position)));
                    ASSERT_THAT(cache_.value(layer(at), sequence(at), g, slot),
                                testing::Each(value_of(at, g, position)));
                }
            }
    }

    Backend& dev_;
    DecodeOrder order_;
    int n_kv_, window_, layers_, batch_;
    std::vector<Start> starts_;
    PageLayout layout_;
    PagedCache cache_;
    std::vector<std::int32_t> lengths_;
    std::vector<std::vector<std::int32_t>> plain_;
    int newest_ = kPrompt - 1;
    std::mt19937 random_{9};
};

class DecodeEvict : public OnEachBackend {};
CAKE_ON_EACH_BACKEND(DecodeEvict);

TEST_P(DecodeEvict, AgreesWithPlainListsOverManySteps) {
    // By layer and sequence: at the budget; 11 too many; below it, and growing; one that does not evict; budgets of
    // 0, 1 and 2.
    const std::vector<Start> starts{{28, 20}, {38, 20}, {15, 20}, {12, -1},
                                    {8, 0},   {9, 1},   {10, 2},  {60, 2}};
    for (const DecodeOrder order : {DecodeOrder::Position, DecodeOrder::Official})
        for (const int page_tokens : {16, 64, 5}) {
            SCOPED_TRACE(fmt::format("order {}, pages of {}", int(order), page_tokens));
            const DType dtype = page_tokens == 16 ? DType::BF16 : DType::F32;
            Decoding decoding(dev(), order, 2, 8, page_tokens, dtype, {4, 2}, starts, 60);
            for (int step = 0; step < 60 && !HasFatalFailure(); ++step)
                decoding.step(step % 2 == 0);
            EXPECT_EQ(decoding.length(2), 28) << "grew to its budget and window, and no further";
            EXPECT_EQ(decoding.length(3), 72) << "never evicts";
        }
}

TEST_P(DecodeEvict, MovesNothingWhereOneTokenLeaves) {
    const PageLayout layout{1, 4, 8, DType::F32};
    PagedCache cache(dev(), layout, 1, 1, 2);
    for (int slot = 0; slot < 6; ++slot) {
        cache.pages(0, 0).position(0, slot) = slot;
        cache.pages(0, 0).order(0, slot) = slot;
    }
    for (int i = 6; i < 8; ++i)
        cache.pages(0, 0).order(0, i) = i;
    cache.push();
    cache.set_lengths({6});
    cache.set_budgets({3});
    Ragged scores(dev(), {4}, {1, 1}, 1, 0);
    scores.set({5, 2, 4, 3});  // of slots 0 .. 3; the window is 4 and 5
    dev().decode_evict(stream, cache.batch(), scores.rows(), 2, DecodeOrder::Position);
    cache.pull();
    EXPECT_THAT(cache.order(0, 0, 0), ElementsAre(0, 2, 3, 4, 5, 1, 6, 7));
    for (int slot = 0; slot < 6; ++slot)
        EXPECT_EQ(cache.pages(0, 0).position(0, slot), slot);
    EXPECT_THAT(cache.lengths(), ElementsAre(5));
}

TEST_P(DecodeEvict, LetsTheLaterOfEqualEntriesGo) {
    const PageLayout layout{1, 8, 8, DType::F32};
    for (const DecodeOrder order : {DecodeOrder::Position, DecodeOrder::Official}) {
        PagedCache cache(dev(), layout, 1, 1, 1);
        for (int slot = 0; slot < 8; ++slot) {
            cache.pages(0, 0).position(0, slot) = slot;
            cache.pages(0, 0).order(0, slot) = slot;
        }
        cache.push();
        cache.set_lengths({6});
        cache.set_budgets({2});
        Ragged scores(dev(), {5}, {1, 1}, 1, 0);
        scores.set({1, 1, 7, 1, 1});
        dev().decode_evict(stream, cache.batch(), scores.rows(), 1, order);
        cache.pull();
        if (order == DecodeOrder::Position)
            EXPECT_THAT(cache.listed_positions(0, 0, 0, 3), ElementsAre(0, 2, 5));
        else
            EXPECT_THAT(cache.listed_positions(0, 0, 0, 3), ElementsAre(2, 0, 5));
    }
}

// More slots than shared memory of a GPU has room to sort, in more sequences than get other room at a time; and rows that
// are no multiple of 16 bytes.
TEST_P(DecodeEvict, ShortensLongCachesAtOnce) {
    constexpr int kLength = 4500, kBudget = 1500, kWindow = 7, kLeft = kBudget + kWindow;
    constexpr int kBatch = 130, kCandidates = kLength - kWindow;
    const std::vector<int> long_ones{0, kBatch - 1};  // others are empty
    for (const DecodeOrder order : {DecodeOrder::Position, DecodeOrder::Official}) {
        const PageLayout layout{.n_kv = 1,
                                .page_tokens = 64,
                                .d_head = order == DecodeOrder::Position ? 4 : 6,
                                .dtype = DType::F32,
                                .running = true};
        PagedCache cache(dev(), layout, 1, kBatch, layout.pages_for(kLength + 1));
        const auto row_of = [&](int x) {  // what a slot holds tells whose it is
            return std::vector<float>(std::size_t(layout.d_head), float(x));
        };
        std::mt19937 random(3);
        std::vector<std::int32_t> lengths(kBatch, 0), budgets(kBatch, -1);
        std::vector<std::int64_t> sizes(kBatch, -1);
        for (const int b : long_ones) {
            lengths[std::size_t(b)] = kLength;
            budgets[std::size_t(b)] = kBudget;
            sizes[std::size_t(b)] = kCandidates;
            std::vector<std::int32_t> slots(kLength);
            std::iota(slots.begin(), slots.end(), 0);
            std::shuffle(slots.begin(), slots.end(), random);
            const LayerPages pages = cache.pages(0, b);
            for (int i = 0; i < cache.capacity(); ++i) {
                pages.order(0, i) = i < kLength ? slots[std::size_t(i)] : i;
                if (i >= kLength)
                    continue;
                const int slot = slots[std::size_t(i)];
                pages.position(0, slot) = 2 * i + b;
                pages.running(0, slot) = float(3 * i + b);
                cache.set_slot(0, b, 0, slot, row_of(4 * i + b).data(), row_of(5 * i + b).data());
            }
        }
        cache.push();
        cache.set_lengths(lengths);
        cache.set_budgets(budgets);
        Ragged scores(dev(), sizes, {1, kBatch}, 1);
        std::vector<float> values = scores.values();
        for (float& x : values)
            x = float(int(random() % 1000)) - 500;  // full of ties
        scores.set(values);
        dev().decode_evict(stream, cache.batch(), scores.rows(), kWindow, order);
        cache.pull();

        for (const int b : long_ones) {
            lengths[std::size_t(b)] = kLeft;
            const auto left =
                reference::decode_evict(scores.block(std::size_t(b), kCandidates), kBudget, kWindow,
                                        order == DecodeOrder::Position);
            const LayerPages pages = cache.pages(0, b);
            const auto listed = cache.order(0, b, 0);
            for (int i = 0; i < kLeft; ++i) {
                const int slot = listed[std::size_t(i)], entry = left[std::size_t(i)];
                ASSERT_EQ(pages.position(0, slot), 2 * entry + b) << "entry " << i;
                ASSERT_EQ(pages.running(0, slot), float(3 * entry + b));
                ASSERT_EQ(cache.key(0, b, 0, slot), row_of(4 * entry + b));
                ASSERT_EQ(cache.value(0, b, 0, slot), row_of(5 * entry + b));
            }
            const std::set<std::int32_t> first(listed.begin(), listed.begin() + kLeft + 1);
            EXPECT_EQ(first.size(), std::size_t(kLeft) + 1) << "a slot that is listed twice";
            EXPECT_EQ(*first.rbegin(), kLeft) << "the first slots hold it but for one hole";
            for (int i = kLeft + 1; i < cache.capacity(); ++i)
                ASSERT_EQ(listed[std::size_t(i)], i);
        }
        EXPECT_EQ(cache.lengths(), lengths);
    }
}

}  // namespace
}  // namespace cake
