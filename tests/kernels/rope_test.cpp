#include "support/backends.h"
#include "support/near.h"
#include "support/paged_cache.h"
#include "support/reference_block.h"

namespace cake {
namespace {

constexpr int kQueryHeads = 6, kKvHeads = 2;

std::vector<float> frequencies(int d_head) {
    std::vector<float> out;
    for (int j = 0; j < d_head / 2; ++j)
        out.push_back(1.0f / std::pow(10000.0f, 2.0f * float(j) / float(d_head)));
    return out;
}

// What a row of qkv becomes: queries, keys, values, in this order.
std::vector<double> split_row(std::span<const float> qkv, int d_head, std::size_t position,
                              double scale) {
    std::vector<double> out;
    for (int h = 0; h < kQueryHeads + 2 * kKvHeads; ++h) {
        const auto x = qkv.subspan(std::size_t(h * d_head), std::size_t(d_head));
        const auto y = h < kQueryHeads + kKvHeads
                           ? reference::rope(x, frequencies(d_head), position, scale)
                           : reference::widened(x);
        out.insert(out.end(), y.begin(), y.end());
    }
    return out;
}

class Rope : public OnEachBackend {
protected:
    static std::int64_t row_elements(int d_head) {
        return std::int64_t(kQueryHeads + 2 * kKvHeads) * d_head;
    }
    Tolerance tolerance(DType dtype) const {
        return {.abs = 2e-6, .rel = 1e-6 + 2 * rounding(dtype)};
    }
};
CAKE_ON_EACH_BACKEND(Rope);

TEST_P(Rope, SplitsAndTurnsQueriesAndKeysToTheirPositions) {
    for (const int d_head : {8, 64, 128})
        for (const DType dtype : {DType::F32, DType::BF16})
            // Far into a prompt; small heads alone under emulation, for the memory of a cache that long.
            for (const std::int64_t first : {0, 7, small() && d_head > 8 ? 1200 : 120000}) {
                SCOPED_TRACE(fmt::format("d_head {}, {}, first {}", d_head, name(dtype), first));
                constexpr std::int64_t n = 19;
                const float scale = first == 7 ? 1.25f : 1.0f;
                const std::int64_t capacity = first + n + 3, row = row_elements(d_head);
                const auto qkv = random_values(n * row, 1, activations());
                const Tensor q = dev().tensor(activations(), {n, kQueryHeads, d_head});
                const Tensor k = dev().tensor(dtype, {kKvHeads, capacity, d_head});
                const Tensor v = dev().tensor(dtype, {kKvHeads, capacity, d_head});
                dev().rope_split(stream, upload(dev(), qkv, {n, row}, activations()),
                                 upload(dev(), frequencies(d_head), {d_head / 2}), scale, first, q,
                                 k, v);

                std::vector<double> want_q, want_k, want_v;  // [n, heads, d_head]
                for (std::int64_t i = 0; i < n; ++i) {
                    const auto want =
                        split_row(std::span(qkv).subspan(std::size_t(i * row), std::size_t(row)),
                                  d_head, std::size_t(first + i), scale);
                    const auto keys = want.begin() + kQueryHeads * d_head,
                               values = keys + kKvHeads * d_head;
                    want_q.insert(want_q.end(), want.begin(), keys);
                    want_k.insert(want_k.end(), keys, values);
                    want_v.insert(want_v.end(), values, want.end());
                }
                EXPECT_THAT(download_floats(dev(), q), NearTo(want_q, tolerance(activations())));
                const auto rows_of = [&](const Tensor& x) {  // the rows written, [n, heads, d_head]
                    std::vector<float> out(std::size_t(n) * kKvHeads * std::size_t(d_head));
                    for (int h = 0; h < kKvHeads; ++h) {
                        const View rows = x.view()
                                              .reshaped({kKvHeads * capacity, d_head})
                                              .rows(h * capacity + first, n);
                        const auto values = download_floats(dev(), rows);
                        for (std::size_t i = 0; i < values.size(); ++i)
                            out[(i / std::size_t(d_head) * kKvHeads + std::size_t(h)) *
                                    std::size_t(d_head) +
                                i % std::size_t(d_head)] = values[i];
                    }
                    return out;
                };
                EXPECT_THAT(rows_of(k), NearTo(want_k, tolerance(dtype)));
                EXPECT_THAT(rows_of(v), NearTo(want_v, tolerance(dtype)));
            }
}

TEST_P(Rope, GivesTheSameBitsHoweverThePromptIsCut) {
    constexpr int d_head = 64;
    constexpr std::int64_t n = 33, cut = 13;
    const std::int64_t row = row_elements(d_head);
    const Tensor qkv =
        upload(dev(), random_values(n * row, 1, activations()), {n, row}, activations());
    const Tensor inv_freq = upload(dev(), frequencies(d_head), {d_head / 2});
    const auto run = [&](std::int64_t border) {
        const Tensor q = dev().tensor(activations(), {n, kQueryHeads, d_head});
        const Tensor k = dev().tensor(DType::F32, {kKvHeads, n, d_head}),
                     v = dev().tensor(DType::F32, {kKvHeads, n, d_head});
        dev().rope_split(stream, qkv.view().rows(0, border), inv_freq, 1, 0,
                         q.view().rows(0, border), k, v);
        dev().rope_split(stream, qkv.view().rows(border, n - border), inv_freq, 1, border,
                         q.view().rows(border, n - border), k, v);
        return std::tuple(download_floats(dev(), q), download_floats(dev(), k),
                          download_floats(dev(), v));
    };
    EXPECT_EQ(run(cut), run(n));
}

// Two layers and two sequences whose pages lie scattered in the pool; each KV head's order list
// names its own slot for the newest token.
TEST_P(Rope, AppendsTheNewestTokenToTheSlotThatItsOrderListNames) {
    constexpr int d_head = 16, page_tokens = 4, n_layers = 2, batch = 2, max_pages = 2, layer = 1;
    for (const DType dtype : {DType::F32, DType::BF16}) {
        const PageLayout layout{kKvHeads, page_tokens, d_head, dtype};
        const std::vector<std::int32_t> tables = {0, 1, 2, 3, /* layer 1 */ 7, 4, 6, 5};
        const std::vector<std::int32_t> lengths = {1, 1, /* layer 1 */ 6, 3};
        const std::vector<std::int32_t> positions = {100, 2000};
        const std::int32_t slots[batch][kKvHeads] = {{5, 2}, {2, 0}};

        const Tensor pool = Tensor::host(DType::U8, {8, std::int64_t(layout.bytes())});
        std::memset(pool.view().data(), 0, pool.bytes());
        const auto in_page = [&](std::byte* bytes, int b, int slot, std::size_t part,
                                 std::size_t element_bytes, int h) {
            const auto page = std::size_t(
                tables[std::size_t((layer * batch + b) * max_pages + slot / page_tokens)]);
            return bytes + page * layout.bytes() + part +
                   std::size_t(h * page_tokens + slot % page_tokens) * element_bytes;
        };
        auto* host = static_cast<std::byte*>(pool.view().data());
        for (int b = 0; b < batch; ++b)
            for (int h = 0; h < kKvHeads; ++h) {
                const std::int32_t newest = lengths[std::size_t(layer * batch + b)] - 1;
                std::memcpy(in_page(host, b, newest, layout.order_offset(), 4, h), &slots[b][h], 4);
            }

        const Tensor pool_dev = dev().tensor(DType::U8, pool.shape());
        dev().copy(stream, pool_dev, pool);
        const Tensor tables_dev = upload(dev(), tables, {n_layers, batch, max_pages});
        const Tensor lengths_dev = upload(dev(), lengths, {n_layers, batch});
        const Tensor positions_dev = upload(dev(), positions, {batch});
        const PagedBatch kv{layout, pool_dev, tables_dev, lengths_dev, lengths_dev, positions_dev};
        const std::int64_t row = row_elements(d_head);
        const auto qkv = random_values(batch * row, 1, activations());
        const Tensor q = dev().tensor(activations(), {batch, kQueryHeads, d_head});
        dev().rope_append(stream, upload(dev(), qkv, {batch, row}, activations()),
                          upload(dev(), frequencies(d_head), {d_head / 2}), 1.0f, layer, kv, q);
        dev().copy(stream, pool, pool_dev);
        dev().synchronize(stream);

        const auto queries = download_floats(dev(), q);
        const std::size_t vector_bytes = bytes_of(dtype, d_head);
        for (int b = 0; b < batch; ++b) {
            const auto want =
                split_row(std::span(qkv).subspan(std::size_t(b * row), std::size_t(row)), d_head,
                          std::size_t(positions[std::size_t(b)]), 1);
            const auto part = [&](int first_head, int n) {
                const auto begin = want.begin() + first_head * d_head;
                return std::vector<double>(begin, begin + n * d_head);
            };
            EXPECT_THAT(std::span(queries).subspan(std::size_t(b * kQueryHeads * d_head),
                                                   kQueryHeads * d_head),
                        NearTo(part(0, kQueryHeads), tolerance(activations())));
            for (int h = 0; h < kKvHeads; ++h) {
                std::byte* k = in_page(host, b, slots[b][h], 0, vector_bytes, h);
                std::byte* v = in_page(host, b, slots[b][h], layout.v_offset(), vector_bytes, h);
                std::int32_t position = 0;
                std::memcpy(&position,
                            in_page(host, b, slots[b][h], layout.position_offset(), 4, h), 4);
                EXPECT_EQ(position, positions[std::size_t(b)]);
                const auto floats = [&](std::byte* data) {
                    const Tensor row_dev = dev().tensor(dtype, {d_head});
                    dev().copy(stream, row_dev, View(data, dtype, {d_head}));
                    return download_floats(dev(), row_dev);
                };
                EXPECT_THAT(floats(k), NearTo(part(kQueryHeads + h, 1), tolerance(dtype)));
                EXPECT_THAT(floats(v),
                            NearTo(part(kQueryHeads + kKvHeads + h, 1), tolerance(dtype)));
            }
        }
    }
}

TEST_P(Rope, StartsTheNewestTokensRunningSumAtNothing) {
    constexpr int d_head = 16;
    const PageLayout layout{kKvHeads, 4, d_head, DType::F32, true};
    test::PagedCache cache(dev(), layout, 1, 1, 1);
    for (int h = 0; h < kKvHeads; ++h)
        for (int slot = 0; slot < 4; ++slot) {
            cache.pages(0, 0).order(h, slot) = 3 - slot;
            cache.pages(0, 0).running(h, slot) = 5;
        }
    cache.push();
    cache.set_lengths({2});
    cache.set_positions({9});
    const std::int64_t row = row_elements(d_head);
    const Tensor q = dev().tensor(activations(), {1, kQueryHeads, d_head});
    dev().rope_append(stream,
                      upload(dev(), random_values(row, 1, activations()), {1, row}, activations()),
                      upload(dev(), frequencies(d_head), {d_head / 2}), 1.0f, 0, cache.batch(), q);
    cache.pull();
    for (int h = 0; h < kKvHeads; ++h)
        for (int slot = 0; slot < 4; ++slot)
            EXPECT_EQ(cache.pages(0, 0).running(h, slot), slot == 2 ? 0.0f : 5.0f);
}

}  // namespace
}  // namespace cake
