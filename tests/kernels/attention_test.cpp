#include <limits>

#include "support/backends.h"
#include "support/near.h"
#include "support/reference_block.h"

namespace cake {
namespace {

struct Heads {
    std::int64_t n_q, n_kv, d_head;
};

class Attention : public OnEachBackend {
protected:
    // Queries of positions first .. S in chunks of at most `chunk`, over keys 0 .. S. q: [S -
    // first, n_q, d_head]; k, v: [n_kv, capacity, d_head], where rows from S on hold NaN: nothing
    // may read them.
    std::vector<float> run(const Heads& heads, std::span<const float> q, std::span<const float> k,
                           std::span<const float> v, std::int64_t first, std::int64_t chunk,
                           DType dtype) {
        const auto [n_q, n_kv, d] = heads;
        const std::int64_t n = std::int64_t(q.size()) / (n_q * d), S = first + n, capacity = S + 5;
        const auto with_room = [&](std::span<const float> x) {
            std::vector<float> out(std::size_t(n_kv * capacity * d),
                                   std::numeric_limits<float>::quiet_NaN());
            for (std::int64_t h = 0; h < n_kv; ++h)
                std::copy_n(x.begin() + h * S * d, S * d, out.begin() + h * capacity * d);
            return upload(dev(), out, {n_kv, capacity, d}, dtype);
        };
        const Tensor q_dev = upload(dev(), q, {n, n_q, d}, activations());
        const Tensor k_dev = with_room(k), v_dev = with_room(v);
        const Tensor out = dev().tensor(activations(), {n, n_q, d});
        for (std::int64_t i = 0; i < n; i += chunk) {
            const std::int64_t here = std::min(chunk, n - i);
            dev().attention(stream, q_dev.view().rows(i, here), k_dev, v_dev, first + i,
                            out.view().rows(i, here));
        }
        return download_floats(dev(), out);
    }

    Tolerance tolerance() const {
        return {.abs = 3e-5 + rounding(activations()), .rel = 3e-5 + 4 * rounding(activations())};
    }
};
CAKE_ON_EACH_BACKEND(Attention);

constexpr std::int64_t kWhole = std::numeric_limits<std::int64_t>::max();

TEST_P(Attention, AgreesWithTheReference) {
    // Group sizes of 1, 3 and 7; heads of every width that models have; keys below, at and above
    // block borders.
    for (const Heads& heads :
         {Heads{2, 2, 64}, Heads{9, 3, 64}, Heads{7, 1, 40}, Heads{4, 2, 128}, Heads{1, 1, 256},
          Heads{4, 1, 8}, Heads{2, 1, 16}, Heads{1, 1, 96}, Heads{1, 1, 136}})
        for (const DType dtype : {DType::F32, DType::BF16})
            for (const std::int64_t S : {1, 2, 31, 64, 65, 150}) {
                SCOPED_TRACE(fmt::format("{} over {} heads of {}, {} tokens, {}", heads.n_q,
                                         heads.n_kv, heads.d_head, S, name(dtype)));
                const auto q = random_values(S * heads.n_q * heads.d_head, 1, activations());
                const auto k = random_values(S * heads.n_kv * heads.d_head, 2, dtype);
                const auto v = random_values(S * heads.n_kv * heads.d_head, 3, dtype);
                const auto want =
                    reference::attention(q, k, v, 0, std::size_t(S), std::size_t(heads.n_q),
                                         std::size_t(heads.n_kv), std::size_t(heads.d_head));
                EXPECT_THAT(run(heads, q, k, v, 0, kWhole, dtype), NearTo(want, tolerance()));
            }
}

TEST_P(Attention, GivesTheSameBitsHoweverThePromptIsCut) {
    const Heads heads = small() ? Heads{2, 1, 64} : Heads{6, 2, 64};
    const std::int64_t S = small() ? 140 : 203;
    const auto q = random_values(S * heads.n_q * heads.d_head, 1, activations());
    const auto k = random_values(S * heads.n_kv * heads.d_head, 2),
               v = random_values(S * heads.n_kv * heads.d_head, 3);
    for (const DType dtype : {DType::F32, DType::BF16}) {
        const auto whole = run(heads, q, k, v, 0, kWhole, dtype);
        for (const std::int64_t chunk : {std::int64_t(1), std::int64_t(7), std::int64_t(64), S - 1})
            EXPECT_EQ(run(heads, q, k, v, 0, chunk, dtype), whole)
                << "chunks of " << chunk << ", " << name(dtype);
    }
}

TEST_P(Attention, StartsAnywhereInThePrompt) {
    constexpr Heads heads{3, 1, 32};
    constexpr std::int64_t S = 130, first = 77;
    for (const DType dtype : {DType::F32, DType::BF16}) {
        const auto q = random_values((S - first) * heads.n_q * heads.d_head, 1, activations());
        const auto k = random_values(S * heads.d_head, 2, dtype),
                   v = random_values(S * heads.d_head, 3, dtype);
        const auto want = reference::attention(q, k, v, first, S - first, 3, 1, 32);
        EXPECT_THAT(run(heads, q, k, v, first, kWhole, dtype), NearTo(want, tolerance()))
            << name(dtype);
    }
}

// So long that a GPU may have a library do it (kernels/cuda/cudnn_attention.h). Each row is a problem of its own to the
// reference; some are enough.
TEST_P(Attention, AgreesWithTheReferenceInLongChunks) {
    const bool large = dev().name() == "cuda" && !small();
    const std::int64_t first = large ? 20000 : 90, n = large ? 8191 : 71, S = first + n;
    for (const Heads& heads : {Heads{64, 8, 64}, Heads{32, 8, 128}}) {
        const auto [all_q, all_kv, d] = heads;
        const std::int64_t n_q = large ? all_q : all_q / 8, n_kv = all_kv / (large ? 1 : 8);
        SCOPED_TRACE(fmt::format("{} over {} heads of {}", n_q, n_kv, d));
        const auto q = random_values(n * n_q * d, 1, activations());
        const auto k = random_values(S * n_kv * d, 2, DType::BF16),
                   v = random_values(S * n_kv * d, 3, DType::BF16);
        const auto got = run({n_q, n_kv, d}, q, k, v, first, (n + 1) / 2, DType::BF16);
        for (const std::int64_t row : {std::int64_t(0), std::int64_t(63), n / 2, n - 2, n - 1}) {
            const auto row_of = [&](const std::vector<float>& x) {
                return std::span(x).subspan(std::size_t(row * n_q * d), std::size_t(n_q * d));
            };
            const auto want =
                reference::attention(row_of(q), k, v, std::size_t(first + row), 1, std::size_t(n_q),
                                     std::size_t(n_kv), std::size_t(d));
            EXPECT_THAT(row_of(got), NearTo(want, tolerance())) << "row " << row;
        }
    }
}

// Scores of +-1000: e^1000 is no float, and the largest of them comes last.
TEST_P(Attention, SurvivesScoresOfAnySize) {
    constexpr std::int64_t S = 140, d = 16;
    for (const DType dtype : {DType::F32, DType::BF16}) {
        auto q = random_values(S * d, 1, activations()), k = random_values(S * d, 2),
             v = random_values(S * d, 3, dtype);
        for (std::int64_t i = 0; i < S; ++i)
            for (std::int64_t c = 0; c < d; ++c) {
                const float key = 16 * (float(i) / S * 2 - 1);
                q[std::size_t(i * d + c)] = 16;
                k[std::size_t(i * d + c)] = dtype == DType::BF16 ? to_float(to_bf16(key)) : key;
            }
        const auto want = reference::attention(q, k, v, 0, S, 1, 1, d);
        EXPECT_THAT(run({1, 1, d}, q, k, v, 0, kWhole, dtype),
                    NearTo(want, {.abs = 2e-3, .rel = 2e-3 + 4 * rounding(activations())}))
            << name(dtype);
    }
}

TEST_P(Attention, GivesTheFirstTokenItsOwnValue) {
    constexpr std::int64_t d = 64;
    for (const DType dtype : {DType::F32, DType::BF16}) {
        // What the cache and the output can hold: all of F32 where both are.
        const DType narrower = dtype == DType::BF16 ? dtype : activations();
        const auto q = random_values(d, 1, activations()), k = random_values(d, 2, dtype),
                   v = random_values(d, 3, narrower);
        EXPECT_EQ(run({1, 1, d}, q, k, v, 0, kWhole, dtype), v) << name(dtype);
    }
}

TEST_P(Attention, RefusesHeadsThatItCannotTile) {
    const Tensor q = dev().tensor(activations(), {1, 1, 12}),
                 out = dev().tensor(activations(), {1, 1, 12});
    const Tensor k = dev().tensor(DType::F32, {1, 4, 12}), v = dev().tensor(DType::F32, {1, 4, 12});
    EXPECT_THROW(dev().attention(stream, q, k, v, 0, out), Error);
}

}  // namespace
}  // namespace cake
