// Kernels judged by captures of the official code: from its queries and keys, its scores, its attention rows.
#include <gmock/gmock.h>

#include "support/golden.h"
#include "support/near.h"
#include "support/paged_cache.h"
#include "support/reference.h"

namespace cake {
namespace {

using test::Capture;
using test::Golden;
using test::PagedCache;
using test::Positions;
using test::Ragged;

constexpr const char* kModels[] = {"tiny-llama", "tiny-mistral", "tiny-qwen2"};
constexpr const char* kPrompts[] = {"p300", "p120"};

class GoldenKernels : public OnEachBackend {
protected:
    // evict_score of one layer from q [w, n_q, d] and k [n_kv, S, d]; H and V in `sums`.
    std::vector<float> indicator(View q, View k, float gamma, std::vector<double>& sums) {
        const std::int64_t w = q.dim(0), n_q = q.dim(1), n_kv = k.dim(0), S = k.dim(1);
        const Shape by_head{n_q, S - w};
        const Tensor mean = dev().tensor(DType::F32, by_head),
                     variance = dev().tensor(DType::F32, by_head);
        const Tensor head_scores = dev().tensor(DType::F32, by_head),
                     scores = dev().tensor(DType::F32, {n_kv, S - w});
        const Tensor h_and_v = dev().tensor(DType::F64, {2});
        dev().window_moments(stream, q, k, S, DType::F32, mean, variance, h_and_v);
        dev().column_scores(stream, mean, variance, ColumnScore::MeanPlusVariance, gamma, 5,
                            head_scores);
        dev().group_mean(stream, head_scores, float(n_q / n_kv), scores);
        sums = download<double>(dev(), h_and_v);
        return download<float>(dev(), scores);
    }
};
CAKE_ON_EACH_BACKEND(GoldenKernels);

TEST_P(GoldenKernels, GiveEntropyVariancePreferenceAndScores) {
    int layers = 0;
    for (const char* model : kModels) {
        const Golden golden(model);
        const double tau1 = golden.index()["tau1"], tau2 = golden.index()["tau2"];
        for (const char* prompt : kPrompts) {
            const Capture seen = golden.capture(std::string(prompt) + "_prefill.safetensors");
            if (!seen.has("q_window"))
                continue;
            const std::vector<float> q = seen.f32("q_window"),
                                     k = seen.f32("k");  // [L, n_q, w, d], [L, n_kv, S, d]
            const Shape qs = seen.shape("q_window"), ks = seen.shape("k");
            const std::int64_t n_q = qs[1], w = qs[2], d = qs[3], n_kv = ks[1], S = ks[2];
            const auto H = seen.f32("disp"), V = seen.f32("var"), P = seen.f32("pref"),
                       score = seen.f32("evict_score");
            for (std::int64_t l = 0; l < qs[0]; ++l, ++layers) {
                SCOPED_TRACE(fmt::format("{} {} layer {}", model, prompt, l));
                std::vector<float> q_rows;  // [w, n_q, d]
                for (std::int64_t i = 0; i < w; ++i)
                    for (std::int64_t h = 0; h < n_q; ++h) {
                        const auto at = q.begin() + ((l * n_q + h) * w + i) * d;
                        q_rows.insert(q_rows.end(), at, at + d);
                    }
                const Tensor q_dev = upload(dev(), q_rows, {w, n_q, d}, activations());
                const Tensor k_dev = upload(
                    dev(),
                    std::span(k).subspan(std::size_t(l * n_kv * S * d), std::size_t(n_kv * S * d)),
                    {n_kv, S, d});
                std::vector<double> sums;
                const std::vector<float> got =
                    indicator(q_dev, k_dev, golden.index()["gamma"], sums);
                const auto at = std::size_t(l);
                const double rel = 1e-5 + 4 * rounding(activations());
                EXPECT_THAT(sums, NearTo({H[at], V[at]}, {.rel = rel}));
                EXPECT_NEAR(reference::preference(sums[0], sums[1], tau1, tau2) / double(P[at]), 1,
                            2 * rel);
                const auto want = score.begin() + l * n_kv * (S - w);
                EXPECT_THAT(got, NearTo({want, want + n_kv * (S - w)}, {.rel = rel}));
            }
        }
    }
    EXPECT_GE(layers, 15);
}

TEST_P(GoldenKernels, SelectWhatTheOfficialCodeKeptInPrefill) {
    int runs = 0;
    for (const char* model : kModels) {
        const Golden golden(model);
        for (const auto& run : golden.runs()) {
            const int S = run["prompt_len"], w = run["window"], C = run["cache_size"];
            if (S <= C + w)  // nothing was evicted
                continue;
            SCOPED_TRACE(fmt::format("{} {}", model, run["tag"].get<std::string>()));
            const Capture seen =
                golden.capture(run["prompt"].get<std::string>() + "_prefill.safetensors");
            const Capture captured = golden.capture(run["file"]);
            const std::vector<float> score = seen.f32("evict_score");
            const Shape shape = seen.shape("evict_score");
            const std::int64_t n_kv = shape[1], n = shape[2];
            const auto lengths = captured.i32("prefill_len");
            Positions want = test::split_positions(captured.i32("prefill_positions"), lengths,
                                                   int(n_kv)),
                      got;
            for (std::int64_t l = 0; l < shape[0]; ++l) {
                const std::int64_t k = lengths[std::size_t(l)] - w;
                const Tensor scores = upload(
                    dev(),
                    std::span(score).subspan(std::size_t(l * n_kv * n), std::size_t(n_kv * n)),
                    {n_kv, n});
                const Tensor keep = dev().tensor(DType::I32, {n_kv, k});
                dev().top_k(stream, scores, keep);
                const auto kept = download<std::int32_t>(dev(), keep);
                auto& layer = got.emplace_back();
                for (std::int64_t g = 0; g < n_kv; ++g) {
                    layer.emplace_back(kept.begin() + g * k, kept.begin() + (g + 1) * k);
                    for (int i = S - w; i < S; ++i)
                        layer.back().push_back(i);
                }
            }
            EXPECT_EQ(test::sorted(got), test::sorted(want));
            ++runs;
        }
    }
    EXPECT_GE(runs, 9);
}

// A run of the official code that decodes on pages with its own attention rows.
class Replay {
public:
    Replay(Backend& dev, const Golden& golden, const nlohmann::json& run)
        : dev_(dev),
          captured_(golden.capture(run["file"])),
          window_(run["window"]),
          n_kv_(int(captured_.shape("evicted")[2])),
          n_q_(int(std::size_t(captured_.shape("decode_attn_first")[0]) /
                   std::size_t(sum_of_first_lengths()))),
          prompt_(run["prompt_len"]),
          lengths_(captured_.i32("prefill_len")),
          layers_(int(lengths_.size())),
          layout_{n_kv_, 16, kHead, DType::F32},
          cache_(dev, layout_, layers_, 1,
                 layout_.pages_for(*std::max_element(lengths_.begin(), lengths_.end()) + 1)) {
        const Positions kept =
            test::split_positions(captured_.i32("prefill_positions"), lengths_, n_kv_);
        const Tensor k = upload(dev, std::vector<float>(std::size_t(n_kv_ * prompt_ * kHead)),
                                {n_kv_, prompt_, kHead});
        for (int l = 0; l < layers_; ++l) {
            std::vector<std::int32_t> keep;
            const int b = lengths_[std::size_t(l)] - window_;
            for (const auto& head : kept[std::size_t(l)])
                keep.insert(keep.end(), head.begin(), head.begin() + b);
            const Tensor keep_dev = upload(dev, keep, {n_kv_, b});
            dev.store_tokens({}, k, k, prompt_ - window_, window_, keep_dev, {}, cache_.list(l, 0));
            dev.order_slots({}, cache_.list(l, 0), lengths_[std::size_t(l)], window_,
                            DecodeOrder::Official);
        }
        cache_.set_lengths(lengths_);
        cache_.set_budgets(captured_.i32("layer_budget"));
        cache_.set_positions({prompt_ - 1});
        cache_.pull();
        for (int l = 0; l < layers_; ++l)
            for (int g = 0; g < n_kv_; ++g)
                EXPECT_EQ(listed(l, g), kept[std::size_t(l)][std::size_t(g)]);
    }

    const Capture& captured() const { return captured_; }
    int n_layers() const { return layers_; }
    int n_kv() const { return n_kv_; }
    std::vector<std::int32_t> listed(int l, int g) const {
        return cache_.listed_positions(l, 0, g, lengths_[std::size_t(l)]);
    }

    // One step with the official attention rows, [n_q, length] of each layer in the order of the list. Checks which
    // positions leave; returns the scores, layer by layer.
    std::vector<float> step(std::span<const float> rows) {
        dev_.begin_step({}, cache_.batch());
        const int t = step_++, newest = prompt_ + t;
        std::vector<std::int64_t> row_sizes, score_sizes;
        const auto budgets = captured_.i32("layer_budget");
        for (int l = 0; l < layers_; ++l) {
            const int n = ++lengths_[std::size_t(l)];
            for (int g = 0; g < n_kv_; ++g)
                cache_.pages(l, 0).position(g, cache_.pages(l, 0).order(g, n - 1)) = newest;
            row_sizes.push_back(std::int64_t(n_q_) * n);
            score_sizes.push_back(
                n > budgets[std::size_t(l)] + window_ ? std::int64_t(n_kv_) * (n - window_) : -1);
        }
        cache_.push();
        Ragged probs(dev_, row_sizes, {layers_, 1}, n_q_),
            scores(dev_, score_sizes, {layers_, 1}, n_kv_);
        std::vector<float> by_slot = probs.values();
        std::size_t at = 0;
        Positions before;
        for (int l = 0; l < layers_; ++l) {
            const int n = lengths_[std::size_t(l)];
            for (int h = 0; h < n_q_; ++h)
                for (int i = 0; i < n; ++i) {
                    const int slot = cache_.pages(l, 0).order(h / (n_q_ / n_kv_), i);
                    by_slot[std::size_t(probs.offset(std::size_t(l)) + std::int64_t(h) * n +
                                        slot)] = rows[at++];
                }
            auto& layer = before.emplace_back();
            for (int g = 0; g < n_kv_; ++g)
                layer.push_back(listed(l, g));
        }
        probs.set(by_slot);
        dev_.decode_scores({}, cache_.batch(), probs.rows(), window_, 5, float(n_q_ / n_kv_),
                           scores.rows());
        dev_.decode_evict({}, cache_.batch(), scores.rows(), window_, DecodeOrder::Official);
        cache_.pull();
        lengths_ = cache_.lengths();
        expect_evicted(t, before);
        std::vector<float> out;
        for (std::size_t l = 0; l < score_sizes.size(); ++l)
            if (score_sizes[l] >= 0)
                for (float x : scores.block(l, score_sizes[l]))
                    out.push_back(x);
        return out;
    }

    // Takes the official order where entries with equal scores lie otherwise. Returns whether it was otherwise.
    bool take_order(int l, int g, std::span<const std::int32_t> official) {
        const auto own = listed(l, g);
        if (std::equal(own.begin(), own.end(), official.begin()))
            return false;
        const LayerPages pages = cache_.pages(l, 0);
        std::vector<std::int32_t> slots;
        for (std::int32_t position : official) {
            const auto found = std::find(own.begin(), own.end(), position);
            CAKE_CHECK(found != own.end(), "position {} has gone", position);
            slots.push_back(pages.order(g, int(found - own.begin())));
        }
        for (std::size_t i = 0; i < slots.size(); ++i)
            pages.order(g, int(i)) = slots[i];
        return true;
    }

private:
    static constexpr int kHead = 8;

    std::int64_t sum_of_first_lengths() const {
        std::int64_t sum = 0;
        for (std::int32_t n : captured_.i32("decode_attn_first_len"))
            sum += n;
        return sum;
    }
    void expect_evicted(int t, const Positions& before) const {
        const auto evicted = captured_.i32("evicted");  // [steps, L, n_kv, E], ascending, then -1
        const std::int64_t E = captured_.shape("evicted")[3];
        for (int l = 0; l < layers_; ++l)
            for (int g = 0; g < n_kv_; ++g) {
                const auto left = listed(l, g);
                std::vector<std::int32_t> gone, want;
                for (std::int32_t position : before[std::size_t(l)][std::size_t(g)])
                    if (std::find(left.begin(), left.end(), position) == left.end())
                        gone.push_back(position);
                std::sort(gone.begin(), gone.end());
                const auto row =
                    evicted.begin() + ((std::int64_t(t) * layers_ + l) * n_kv_ + g) * E;
                std::copy_if(row, row + E, std::back_inserter(want),
                             [](std::int32_t p) { return p >= 0; });
                EXPECT_EQ(gone, want) << "step " << t << ", layer " << l << ", KV head " << g;
            }
    }

    Backend& dev_;
    Capture captured_;
    int window_, n_kv_, n_q_, prompt_;
    std::vector<std::int32_t> lengths_;
    int layers_;
    PageLayout layout_;
    PagedCache cache_;
    int step_ = 0;
};

TEST_P(GoldenKernels, EvictWhatTheOfficialCodeEvictsInTheFirstStep) {
    int runs = 0;
    for (const char* model : kModels) {
        const Golden golden(model);
        for (const auto& run : golden.runs()) {
            const Capture captured = golden.capture(run["file"]);
            if (!captured.has("decode_attn_first"))
                continue;
            SCOPED_TRACE(fmt::format("{} {}", model, run["tag"].get<std::string>()));
            Replay replay(dev(), golden, run);
            const std::vector<float> scores = replay.step(captured.f32("decode_attn_first"));
            const std::vector<float> want = captured.f32("decode_score_first");
            EXPECT_THAT(scores, NearTo({want.begin(), want.end()}, {.rel = 1e-5}));
            ++runs;
        }
    }
    EXPECT_GE(runs, 15);
}

TEST_P(GoldenKernels, EvictWhatTheOfficialCodeEvictsAtEveryStep) {
    for (const char* model : kModels) {
        const Golden golden(model);
        const auto run = std::find_if(golden.runs().begin(), golden.runs().end(),
                                      [](const auto& r) { return r["tag"] == "p300_c48_flat"; });
        ASSERT_NE(run, golden.runs().end());
        SCOPED_TRACE(model);
        Replay replay(dev(), golden, *run);
        const std::vector<float> rows = replay.captured().f32("decode_attn");
        const auto row_lengths = replay.captured().i32("decode_attn_len");
        const auto listed = replay.captured().i32("step_positions");
        const std::int64_t n_q =
            std::int64_t(rows.size()) /
            std::accumulate(row_lengths.begin(), row_lengths.end(), std::int64_t(0));
        const std::int64_t steps = replay.captured().shape("evicted")[0];
        std::size_t row_at = 0, listed_at = 0, otherwise = 0;
        for (std::int64_t t = 0; t < steps && !HasFailure(); ++t) {
            std::size_t n = 0;
            for (int l = 0; l < replay.n_layers(); ++l)
                n += std::size_t(n_q * row_lengths[std::size_t(t * replay.n_layers() + l)]);
            replay.step(std::span(rows).subspan(row_at, n));
            row_at += n;
            for (int l = 0; l < replay.n_layers(); ++l)
                for (int g = 0; g < replay.n_kv(); ++g) {
                    const std::size_t length = replay.listed(l, g).size();
                    otherwise +=
                        replay.take_order(l, g, std::span(listed).subspan(listed_at, length));
                    listed_at += length;
                }
        }
        EXPECT_EQ(row_at, rows.size());
        EXPECT_EQ(listed_at, listed.size());
        RecordProperty("orders_that_differ_at_ties", int(otherwise));
    }
}

}  // namespace
}  // namespace cake
