// Scores over all heads, and running sums: beside plain lists of what each KV head holds.
#include <gmock/gmock.h>

#include "support/near.h"
#include "support/paged_cache.h"
#include "support/reference.h"

namespace cake {
namespace {

using test::PagedCache;
using test::Ragged;

constexpr int kLayers = 3, kBatch = 2, kHeads = 2, kGroup = 3, kWindow = 4, kPageTokens = 5;
constexpr int kPrompt = 500, kMaxPages = 12;

struct Start {
    int length, budget;
};
// By layer and sequence: at the budget; 11 too many; below it, and growing; one that does not evict; budgets of 0 and 1.
const std::vector<Start> kStarts{{14, 10}, {25, 10}, {9, 10}, {12, -1}, {4, 0}, {6, 1}};

struct Entry {
    int position;
    float running;
    bool operator==(const Entry&) const = default;
};

class DecodeScores : public OnEachBackend {
protected:
    DecodeScores()
        : layout_{.n_kv = kHeads, .page_tokens = kPageTokens, .d_head = 8, .running = true},
          cache_(dev(), layout_, kLayers, kBatch, kMaxPages) {
        std::vector<std::int32_t> budgets;
        for (std::size_t at = 0; at < kStarts.size(); ++at) {
            lengths_.push_back(kStarts[at].length);
            budgets.push_back(kStarts[at].budget);
            for (int g = 0; g < kHeads; ++g)
                plain_.push_back(fill(at, g));
        }
        cache_.push();
        cache_.set_lengths(lengths_);
        cache_.set_budgets(budgets);
        cache_.set_positions(std::vector<std::int32_t>(kBatch, kPrompt - 1));
    }

    // A token comes to every layer: what rope_append leaves.
    void append() {
        dev().begin_step(stream, cache_.batch());
        ++newest_;
        cache_.pull();
        for (std::size_t at = 0; at < kStarts.size(); ++at) {
            ++lengths_[at];
            for (int g = 0; g < kHeads; ++g) {
                put(at, g, pages(at).order(g, lengths_[at] - 1), {newest_, 0});
                plain(at, g).push_back({newest_, 0});
            }
        }
        cache_.push();
    }

    Ragged random_rows() {
        std::vector<std::int64_t> sizes;
        for (int length : lengths_)
            sizes.push_back(std::int64_t(kHeads * kGroup) * length);
        Ragged probs(dev(), sizes, {kLayers, kBatch}, kHeads * kGroup);
        std::vector<float> values = probs.values();
        for (float& x : values)
            x = std::uniform_real_distribution<float>(0, 1)(random_);
        probs.set(values);
        return probs;
    }

    // Probabilities of a query head by slot.
    std::vector<float> row(const Ragged& probs, std::size_t at, int h) {
        const auto all = probs.block(at, std::int64_t(kHeads * kGroup) * lengths_[at]);
        return {all.begin() + h * lengths_[at], all.begin() + (h + 1) * lengths_[at]};
    }

    int candidates(std::size_t at) const {
        const bool evicts = kStarts[at].budget >= 0 && lengths_[at] > kStarts[at].budget + kWindow;
        return evicts ? lengths_[at] - kWindow : 0;
    }
    LayerPages pages(std::size_t at) const {
        return cache_.pages(int(at) / kBatch, int(at) % kBatch);
    }
    std::vector<Entry>& plain(std::size_t at, int g) {
        return plain_[at * kHeads + std::size_t(g)];
    }

    void evict_plainly(std::size_t at, int g, const std::vector<float>& score) {
        std::vector<Entry> left;
        for (std::int32_t i :
             reference::decode_evict(score, std::size_t(kStarts[at].budget), kWindow, true))
            left.push_back(plain(at, g)[std::size_t(i)]);
        plain(at, g) = left;
    }

    // The pages hold what the plain lists do.
    void check() {
        cache_.pull();
        for (std::size_t at = 0; at < kStarts.size(); ++at) {
            if (candidates(at) > 0)
                lengths_[at] = kStarts[at].budget + kWindow;
            for (int g = 0; g < kHeads; ++g) {
                std::vector<Entry> held;
                for (int i = 0; i < lengths_[at]; ++i) {
                    const int slot = pages(at).order(g, i);
                    held.push_back({pages(at).position(g, slot), pages(at).running(g, slot)});
                }
                ASSERT_TRUE(held == plain(at, g)) << "block " << at << ", head " << g;
            }
        }
        ASSERT_EQ(cache_.lengths(), lengths_);
    }

    PageLayout layout_;
    PagedCache cache_;
    std::vector<std::int32_t> lengths_;

private:
    void put(std::size_t at, int g, int slot, Entry e) {
        pages(at).position(g, slot) = e.position;
        pages(at).running(g, slot) = e.running;
    }
    // The same tokens in the same order for all heads, in slots of each head's own.
    std::vector<Entry> fill(std::size_t at, int g) {
        const int n = kStarts[at].length;
        std::vector<std::int32_t> slots(static_cast<std::size_t>(n));
        std::iota(slots.begin(), slots.end(), 0);
        std::shuffle(slots.begin(), slots.end(), random_);
        std::vector<Entry> entries;
        for (int i = 0; i < cache_.capacity(); ++i) {
            pages(at).order(g, i) = i < n ? slots[std::size_t(i)] : i;
            if (i >= n)
                continue;
            const int position = i < n - kWindow ? 3 * i + 1 : kPrompt - (n - i);
            entries.push_back({position, float(random_() % 1000) / 100});
            put(at, g, slots[std::size_t(i)], entries.back());
        }
        return entries;
    }

    std::vector<std::vector<Entry>> plain_;
    std::mt19937 random_{11};
    int newest_ = kPrompt - 1;
};
CAKE_ON_EACH_BACKEND(DecodeScores);

TEST_P(DecodeScores, OfOneRowAreMeansOverAllHeadsAndServeAllHeads) {
    constexpr int kPool = 3, kModelHeads = 12;  // this rank's 6, and another's
    for (int step = 0; step < 8 && !HasFatalFailure(); ++step) {
        append();
        const Ragged probs = random_rows();
        std::vector<std::int64_t> sizes;
        for (std::size_t at = 0; at < kStarts.size(); ++at)
            sizes.push_back(candidates(at) > 0 ? candidates(at) : -1);
        const Ragged scores(dev(), sizes, {kLayers, kBatch}, 1);
        dev().decode_scores(stream, cache_.batch(), probs.rows(), kWindow, kPool, kModelHeads,
                            scores.rows());
        for (std::size_t at = 0; at < kStarts.size(); ++at) {
            if (candidates(at) == 0)
                continue;
            reference::Rows rows;
            for (int h = 0; h < kHeads * kGroup; ++h) {
                rows.emplace_back();
                for (int i = 0; i < lengths_[at]; ++i)
                    rows.back().push_back(
                        row(probs, at, h)[std::size_t(pages(at).order(h / kGroup, i))]);
            }
            reference::Row want = reference::decode_scores(rows, kWindow, kPool, 1)[0];
            for (double& x : want)
                x *= double(kHeads * kGroup) / kModelHeads;
            const std::vector<float> got = scores.block(at, candidates(at));
            EXPECT_THAT(got, NearTo(want, {.rel = 1e-6}));
            for (int g = 0; g < kHeads; ++g)
                evict_plainly(at, g, got);
        }
        dev().decode_evict(stream, cache_.batch(), scores.rows(), kWindow, DecodeOrder::Position);
        check();
    }
}

TEST_P(DecodeScores, OfRunningSumsGoWithTheirTokens) {
    for (int step = 0; step < 30 && !HasFatalFailure(); ++step) {
        append();
        const Ragged probs = random_rows();
        std::vector<std::int64_t> sizes;
        for (int length : lengths_)
            sizes.push_back(std::int64_t(kHeads) * length);
        const Ragged means(dev(), sizes, {kLayers, kBatch}, kHeads);
        dev().decode_means(stream, cache_.batch(), probs.rows(), kGroup, means.rows());
        dev().add_running(stream, cache_.batch(), means.rows());
        for (std::size_t at = 0; at < kStarts.size(); ++at)
            for (int g = 0; g < kHeads; ++g) {
                reference::Rows rows;
                for (int h = g * kGroup; h < (g + 1) * kGroup; ++h) {
                    const auto by_slot = row(probs, at, h);
                    rows.emplace_back(by_slot.begin(), by_slot.end());
                }
                const auto all = means.block(at, sizes[at]);
                const std::vector<float> mean(all.begin() + g * lengths_[at],
                                              all.begin() + (g + 1) * lengths_[at]);
                EXPECT_THAT(mean, NearTo(reference::group_mean(rows, 1)[0], {.rel = 1e-6}));
                std::vector<float> score;
                for (int i = 0; i < lengths_[at]; ++i) {
                    Entry& e = plain(at, g)[std::size_t(i)];
                    e.running += mean[std::size_t(pages(at).order(g, i))];
                    score.push_back(e.running);
                }
                if (candidates(at) > 0) {
                    score.resize(std::size_t(candidates(at)));
                    evict_plainly(at, g, score);
                }
            }
        dev().decode_evict(stream, cache_.batch(), {}, kWindow, DecodeOrder::Position);
        check();
    }
}

}  // namespace
}  // namespace cake
