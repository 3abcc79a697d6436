#include <gmock/gmock.h>

#include "support/near.h"
#include "support/paged_cache.h"
#include "support/reference.h"

namespace cake {
namespace {

using test::PagedCache;
using test::Ragged;

struct DecodeCase {
    int n_q, n_kv, d, page_tokens;
    DType dtype;
};

// Keys, values and a query of one sequence; [n_kv, length, d] and [n_q, d].
struct Sequence {
    Sequence(const DecodeCase& c, int n, unsigned seed, DType activations)
        : length(n),
          k(random_values(c.n_kv * n * c.d, 3 * seed, c.dtype)),
          v(random_values(c.n_kv * n * c.d, 3 * seed + 1, c.dtype)),
          q(random_values(c.n_q * c.d, 3 * seed + 2, activations)) {}
    int length;
    std::vector<float> k, v, q;
};

struct Attended {
    std::vector<float> out;  // [batch, n_q, d]
    std::vector<std::vector<float>>
        probs;  // by sequence, [n_q, length]; empty where none was asked for
};

constexpr int kLayers = 3, kLayer = 1;

// with_probs: by sequence. more_pages: that page tables have room for, and nobody uses.
Attended attend(Backend& dev, DType activations, const DecodeCase& c,
                const std::vector<Sequence>& batch, const std::vector<bool>& with_probs,
                int more_pages = 0) {
    const PageLayout layout{c.n_kv, c.page_tokens, c.d, c.dtype};
    const int B = int(batch.size());
    int longest = 0;
    for (const Sequence& s : batch)
        longest = std::max(longest, s.length);
    PagedCache cache(dev, layout, kLayers, B, layout.pages_for(longest) + more_pages);
    std::vector<std::int32_t> lengths(std::size_t(kLayers * B), 1);
    std::vector<std::int64_t> sizes(std::size_t(kLayers * B), -1);
    std::vector<float> queries;
    for (int b = 0; b < B; ++b) {
        const Sequence& s = batch[std::size_t(b)];
        lengths[std::size_t(kLayer * B + b)] = s.length;
        if (with_probs[std::size_t(b)])
            sizes[std::size_t(kLayer * B + b)] = std::int64_t(c.n_q) * s.length;
        for (int g = 0; g < c.n_kv; ++g)
            for (int slot = 0; slot < s.length; ++slot) {
                const std::size_t at = std::size_t(g * s.length + slot) * std::size_t(c.d);
                cache.set_slot(kLayer, b, g, slot, &s.k[at], &s.v[at]);
            }
        queries.insert(queries.end(), s.q.begin(), s.q.end());
    }
    cache.push();
    cache.set_lengths(lengths);
    const Ragged probs(dev, sizes, {kLayers, B}, c.n_q);
    const Tensor q = upload(dev, queries, {B, c.n_q, c.d}, activations);
    const Tensor out = dev.tensor(activations, {B, c.n_q, c.d});
    dev.decode_attention({}, q, kLayer, cache.batch(), probs.rows(), out);

    Attended result{download_floats(dev, out), {}};
    for (int b = 0; b < B; ++b) {
        const std::size_t block = std::size_t(kLayer * B + b);
        result.probs.push_back(with_probs[std::size_t(b)] ? probs.block(block, sizes[block])
                                                          : std::vector<float>());
    }
    const auto all = probs.values();
    std::int64_t written = 0;
    for (std::int64_t size : sizes)
        written += std::max<std::int64_t>(0, size);
    EXPECT_EQ(std::int64_t(all.size()) - written,
              std::count(all.begin(), all.end(), Ragged::kUntouched))
        << "floats between the blocks";
    return result;
}

// [n_q] rows of probabilities by slot.
reference::Rows want_probs(const DecodeCase& c, const Sequence& s) {
    reference::Rows rows;
    for (int h = 0; h < c.n_q; ++h)
        rows.push_back(reference::attention_row(
            s.q.data() + h * c.d,
            s.k.data() + std::ptrdiff_t(h / (c.n_q / c.n_kv)) * s.length * c.d,
            std::size_t(s.length), std::size_t(c.d)));
    return rows;
}

class DecodeAttention : public OnEachBackend {
protected:
    Attended run(const DecodeCase& c, const std::vector<Sequence>& batch,
                 const std::vector<bool>& with_probs, int more_pages = 0) {
        return attend(dev(), activations(), c, batch, with_probs, more_pages);
    }
    Sequence sequence(const DecodeCase& c, int length, unsigned seed) {
        return Sequence(c, length, seed, activations());
    }
};
CAKE_ON_EACH_BACKEND(DecodeAttention);

TEST_P(DecodeAttention, AgreesWithTheReference) {
    for (const auto& [n_q, n_kv, d, page_tokens] :
         {std::array{9, 3, 64, 16}, std::array{2, 2, 64, 64}, std::array{7, 1, 40, 7},
          std::array{8, 2, 128, 64}, std::array{3, 1, 8, 16}, std::array{6, 3, 24, 1},
          std::array{16, 1, 256, 64}, std::array{2, 1, 20, 16}, std::array{2, 1, 512, 16}})
        for (const DType dtype : {DType::F32, DType::BF16}) {
            const DecodeCase c{n_q, n_kv, d, page_tokens, dtype};
            // Lengths around vectors, pages and the pieces that work is cut into.
            std::vector<Sequence> batch;
            for (const int length : {1, 2, 7, 16, 33, 64, 511, 512, 513, 1300})
                batch.push_back(sequence(c, length, unsigned(length)));
            const Attended got =
                run(c, batch, {true, false, true, true, true, true, false, true, true, true});
            for (std::size_t b = 0; b < batch.size(); ++b) {
                const Sequence& s = batch[b];
                SCOPED_TRACE(fmt::format("{} over {} heads of {}, pages of {}, {}, {} slots", n_q,
                                         n_kv, d, page_tokens, name(dtype), s.length));
                const reference::Rows a = want_probs(c, s);
                std::vector<double> want_rows, want_out(std::size_t(n_q * d));
                for (int h = 0; h < n_q; ++h)
                    for (int slot = 0; slot < s.length; ++slot) {
                        want_rows.push_back(a[std::size_t(h)][std::size_t(slot)]);
                        for (int x = 0; x < d; ++x)
                            want_out[std::size_t(h * d + x)] +=
                                want_rows.back() *
                                double(
                                    s.v[std::size_t((h / (n_q / n_kv) * s.length + slot) * d + x)]);
                    }
                const auto out = got.out.begin() + std::ptrdiff_t(b) * n_q * d;
                EXPECT_THAT(std::vector<float>(out, out + n_q * d),
                            NearTo(want_out, {.abs = 1e-4 + rounding(activations()),
                                              .rel = 1e-5 + 2 * rounding(activations())}));
                if (!got.probs[b].empty()) {
                    EXPECT_THAT(got.probs[b], NearTo(want_rows, {.abs = 1e-30, .rel = 5e-5}));
                }
            }
        }
}

TEST_P(DecodeAttention, DoesNotDependOnWhatElseIsInTheBatch) {
    const DecodeCase c{6, 2, 32, 16, DType::BF16};
    std::vector<Sequence> batch;
    for (const int length : {700, 3, 1025, 64})
        batch.push_back(sequence(c, length, unsigned(length)));
    const Attended together = run(c, batch, {true, true, true, true});
    for (std::size_t b = 0; b < batch.size(); ++b) {
        const Attended alone = run(c, {batch[b]}, {true});
        EXPECT_TRUE(std::equal(alone.out.begin(), alone.out.end(),
                               together.out.begin() + std::ptrdiff_t(b) * c.n_q * c.d));
        EXPECT_EQ(alone.probs[0], together.probs[b]);
    }
}

TEST_P(DecodeAttention, GivesTheSameWithAndWithoutProbabilities) {
    const DecodeCase c{4, 2, 64, 16, DType::F32};
    const std::vector<Sequence> batch{sequence(c, 600, 1)};
    EXPECT_EQ(run(c, batch, {true}).out, run(c, batch, {false}).out);
}

TEST_P(DecodeAttention, DoesNotDependOnThePageSize) {
    const std::vector<Sequence> batch{sequence({4, 2, 64, 16, DType::F32}, 600, 1)};
    const Attended by_16 = run({4, 2, 64, 16, DType::F32}, batch, {true});
    for (const int page_tokens : {64, 7}) {
        const Attended other = run({4, 2, 64, page_tokens, DType::F32}, batch, {true});
        EXPECT_EQ(other.out, by_16.out);
        EXPECT_EQ(other.probs, by_16.probs);
    }
}

TEST_P(DecodeAttention, DoesNotDependOnHowManySlotsThereCouldBe) {
    const DecodeCase c{4, 2, 64, 16, DType::BF16};
    const std::vector<Sequence> batch{sequence(c, 600, 1)};
    const Attended tight = run(c, batch, {true}), roomy = run(c, batch, {true}, 150);
    EXPECT_EQ(roomy.out, tight.out);
    EXPECT_EQ(roomy.probs, tight.probs);
}

TEST(DecodeAttentionOnCpu, GivesTheSameBitsOnAnyNumberOfThreads) {
    const DecodeCase c{9, 3, 64, 64, DType::F32};
    const std::vector<Sequence> batch{Sequence(c, 2000, 1, DType::F32),
                                      Sequence(c, 5, 2, DType::F32)};
    const Attended one = attend(*make_cpu_backend(1), DType::F32, c, batch, {true, true});
    for (const int threads : {2, 3, 5}) {
        const Attended more =
            attend(*make_cpu_backend(threads), DType::F32, c, batch, {true, true});
        EXPECT_EQ(more.out, one.out);
        EXPECT_EQ(more.probs, one.probs);
    }
}

class DecodeStep : public OnEachBackend {};
CAKE_ON_EACH_BACKEND(DecodeStep);

TEST_P(DecodeStep, MakesEveryLayerOfEverySequenceOneLonger) {
    PagedCache cache(dev(), {1, 4, 8, DType::F32}, 2, 3, 1);
    cache.set_lengths({1, 2, 3, 10, 20, 30});
    cache.set_positions({7, 100, 0});
    dev().begin_step(stream, cache.batch());
    EXPECT_THAT(cache.lengths(), testing::ElementsAre(2, 3, 4, 11, 21, 31));
    EXPECT_THAT(cache.positions(), testing::ElementsAre(8, 101, 1));
}

}  // namespace
}  // namespace cake
