#include "model/shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cake::test {
namespace {

ModelConfig smollm2() {
    ModelConfig m;
    m.n_layers = 30;
    m.d_model = 576;
    m.n_heads = 9;
    m.n_kv_heads = 3;
    m.d_head = 64;
    m.d_ff = 1536;
    m.vocab = 49152;
    return m;
}

TEST(Shard, DealsEveryHeadColumnAndRowToExactlyOneRank) {
    for (int kv : {1, 2, 3, 4, 8})
        for (int group : {1, 3, 4})
            for (int d_ff : {80, 144, 1536, 14336})
                for (int ranks = 1; ranks <= kv * group; ++ranks) {
                    ModelConfig m = smollm2();
                    m.n_kv_heads = kv;
                    m.n_heads = kv * group;
                    m.d_ff = d_ff;
                    std::int64_t heads = 0, kv_heads = 0, ff = 0, vocab = 0;
                    for (int r = 0; r < ranks; ++r) {
                        const Shard s = shard_of(m, ranks, r);
                        EXPECT_EQ(s.q_heads.begin, heads);
                        EXPECT_EQ(s.kv_heads.begin, s.owns_kv() ? kv_heads : kv_heads - 1);
                        EXPECT_EQ(s.ff.begin, ff);
                        EXPECT_EQ(s.vocab.begin, vocab);
                        EXPECT_TRUE(s.shares_kv() ? s.n_kv() == 1 : s.group() == group);
                        EXPECT_GT(s.n_q(), 0);
                        EXPECT_GT(s.n_kv(), 0);
                        EXPECT_GT(s.ff.size(), 0);
                        heads = s.q_heads.end;
                        kv_heads = s.kv_heads.end;
                        ff = s.ff.end;
                        vocab = s.vocab.end;
                    }
                    EXPECT_EQ(heads, m.n_heads);
                    EXPECT_EQ(kv_heads, kv);
                    EXPECT_EQ(ff, d_ff);
                    EXPECT_EQ(vocab, m.vocab);
                }
}

TEST(Shard, DealsMlpColumnsEvenlyAlsoWhereHeadsAreNot) {
    const Shard a = shard_of(smollm2(), 2, 0), b = shard_of(smollm2(), 2, 1);
    EXPECT_EQ(a.n_kv(), 2);
    EXPECT_EQ(b.n_kv(), 1);
    EXPECT_EQ(a.ff.size(), 768);
    EXPECT_EQ(b.ff.size(), 768);
}

TEST(Shard, LetsRanksShareAKvHeadWhereThereAreMoreRanksThanHeads) {
    // 9 query and 3 KV heads on 5 ranks: KV heads 0 and 1 on two ranks each, with 2 + 1 query heads.
    const int kv[] = {0, 0, 1, 1, 2}, q[] = {2, 1, 2, 1, 3};
    for (int r = 0; r < 5; ++r) {
        const Shard s = shard_of(smollm2(), 5, r);
        EXPECT_EQ(s.kv_heads.begin, kv[r]);
        EXPECT_EQ(s.n_q(), q[r]);
        EXPECT_EQ(s.sharers, r < 4 ? 2 : 1);
        EXPECT_EQ(s.owns_kv(), r % 2 == 0);
    }
}

TEST(Shard, KeepsVectorLoadsAndQuantisedBlocksWholeWhereItCan) {
    for (int r = 0; r < 3; ++r)
        EXPECT_EQ(shard_of(smollm2(), 3, r).ff.begin % 32, 0);
}

TEST(Shard, RefusesMoreRanksThanTheModelHasHeadsFor) {
    try {
        shard_of(smollm2(), 10, 0);
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ExitCode::Usage);
        EXPECT_THAT(e.what(),
                    testing::HasSubstr("10 ranks are too many for this model: start at most 9"));
    }
}

TEST(EvenRun, SizesDifferByAtMostOneLargerFirst) {
    EXPECT_EQ(even_run(7, 3, 0).size(), 3);
    EXPECT_EQ(even_run(7, 3, 1).size(), 2);
    EXPECT_EQ(even_run(7, 3, 2).end, 7);
    EXPECT_EQ(even_run(2, 3, 2).size(), 0);
}

TEST(Shard, DrawsBordersOfColumnsAtBlocksWhereThereAreEnough) {
    ModelConfig m = smollm2();
    m.n_heads = 32;
    m.n_kv_heads = 8;
    m.d_ff = 14336;
    for (auto [dtype, block] : {std::pair(DType::Q4_1, 32), std::pair(DType::Q4_K, 256)}) {
        m.dtype = dtype;
        for (int ranks : {1, 2, 3, 5, 8})
            for (int r = 0; r < ranks; ++r)
                EXPECT_EQ(shard_of(m, ranks, r).ff.end % block, 0) << ranks;
    }
}

}  // namespace
}  // namespace cake::test
