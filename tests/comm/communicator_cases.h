// What every communicator must do, written once: run over self, over threads and over MPI. A case runs on all ranks of
// `comm` at once, and expects (never asserts, which would leave the others alone in the next collective).
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "comm/communicator.h"

namespace cake {

using Case = void (*)(Communicator& comm);

inline View view_of(std::vector<float>& x) {
    return View(x.data(), DType::F32, Shape{std::int64_t(x.size())});
}
inline View view_of(std::vector<bf16>& x) {
    return View(x.data(), DType::BF16, Shape{std::int64_t(x.size())});
}

// Whole numbers, so that sums are exact and compared for equality.
inline float whole(int rank, std::int64_t i) { return float((i * 7 + rank * 13) % 101 - 50); }

inline void adds_whole_numbers(Communicator& comm, std::int64_t n) {
    std::vector<float> x(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i)
        x[std::size_t(i)] = whole(comm.rank(), i);
    comm.all_reduce_sum(Stream{}, view_of(x));
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        float expected = 0;
        for (int r = 0; r < comm.size(); ++r)
            expected += whole(r, i);
        wrong += x[std::size_t(i)] != expected;
    }
    EXPECT_EQ(wrong, 0) << "of " << n << " on rank " << comm.rank();
}

inline void knows_its_rank(Communicator& comm) {
    EXPECT_GE(comm.rank(), 0);
    EXPECT_LT(comm.rank(), comm.size());
    std::vector<double> seen(std::size_t(comm.size()), 0.0);
    seen[std::size_t(comm.rank())] = 1;
    comm.sum(seen);
    EXPECT_EQ(seen, std::vector<double>(std::size_t(comm.size()), 1.0));
}

inline void adds_messages_of_any_length(Communicator& comm) {
    for (std::int64_t n : {0, 1, 2, 3, 7, 64, 999, 1000, 1001, 4096, 4097, 50'000})
        adds_whole_numbers(comm, n);
}

inline void adds_a_large_message(Communicator& comm) { adds_whole_numbers(comm, 3'000'000); }

inline void adds_bf16(Communicator& comm) {
    for (std::int64_t n : {0, 1, 5, 1000, 9000, 100'000}) {
        std::vector<bf16> x(static_cast<std::size_t>(n));
        for (std::int64_t i = 0; i < n; ++i)  // sums below 256 are exact in bf16
            x[std::size_t(i)] = to_bf16(float((i + comm.rank()) % 16));
        comm.all_reduce_sum(Stream{}, view_of(x));
        std::int64_t wrong = 0;
        for (std::int64_t i = 0; i < n; ++i) {
            float expected = 0;
            for (int r = 0; r < comm.size(); ++r)
                expected += float((i + r) % 16);
            wrong += to_float(x[std::size_t(i)]) != expected;
        }
        EXPECT_EQ(wrong, 0) << "of " << n << " on rank " << comm.rank();
    }
}

// 256 + 1 is 256 in bf16, so that rounding after each rank would lose what F32 keeps.
inline void rounds_sums_of_bf16_once(Communicator& comm) {
    std::vector<bf16> x(3, to_bf16(comm.rank() == 0 ? 256.0f : 1.0f));
    comm.all_reduce_sum(Stream{}, view_of(x));
    const float expected = to_float(to_bf16(256.0f + float(comm.size() - 1)));
    for (bf16 value : x)
        EXPECT_EQ(to_float(value), expected);
}

// A row's sum is the same bits in a message of one row and of many.
inline void adds_in_rank_order_whatever_the_length(Communicator& comm) {
    constexpr std::size_t n = 30'000;
    std::vector<std::vector<float>> by_rank;
    for (int r = 0; r < comm.size(); ++r) {
        std::mt19937 random(unsigned(r) + 1);
        std::normal_distribution<float> normal;
        std::vector<float>& values = by_rank.emplace_back(n);
        std::generate(values.begin(), values.end(), [&] { return normal(random); });
    }
    std::vector<float> expected = by_rank[0];
    for (std::size_t r = 1; r < by_rank.size(); ++r)
        for (std::size_t i = 0; i < n; ++i)
            expected[i] += by_rank[r][i];

    const std::vector<float>& mine = by_rank[std::size_t(comm.rank())];
    for (std::size_t length :
         {std::size_t(1), std::size_t(10), std::size_t(700), std::size_t(6000), n}) {
        std::vector<float> x(mine.begin(), mine.begin() + std::ptrdiff_t(length));
        comm.all_reduce_sum(Stream{}, view_of(x));
        EXPECT_EQ(std::memcmp(x.data(), expected.data(), length * sizeof(float)), 0) << length;
    }
}

// 1e16 + 1 is 1e16: the order of the sum shows in its bits, and it is the ranks' order.
inline void sums_host_values_in_rank_order(Communicator& comm) {
    const double by_rank[] = {1e16, 1, -1e16, 3, 0.1};
    std::vector<double> x{by_rank[comm.rank()], double(comm.rank()), -0.0};
    comm.sum(x);
    double expected = by_rank[0];
    for (int r = 1; r < comm.size(); ++r)
        expected += by_rank[r];
    EXPECT_EQ(std::memcmp(&x[0], &expected, sizeof(double)), 0) << x[0];
    EXPECT_EQ(x[1], comm.size() * (comm.size() - 1) / 2);
    EXPECT_TRUE(std::signbit(x[2]));
    comm.sum({});

    // The same bits everywhere, as the ranks see each other.
    const std::string bits(reinterpret_cast<const char*>(x.data()), x.size() * sizeof(double));
    for (const std::string& theirs : comm.gather_strings(bits))
        EXPECT_EQ(theirs, bits);
}

inline std::vector<std::int64_t> uneven_lengths(int size, std::int64_t unit) {
    std::vector<std::int64_t> lengths;  // every other rank gives nothing
    for (int r = 0; r < size; ++r)
        lengths.push_back(r % 2 == 1 ? 0 : unit * (r + 1));
    return lengths;
}

inline void gathers_uneven_parts(Communicator& comm) {
    for (std::int64_t unit : {1, 5, 3000}) {
        const std::vector<std::int64_t> lengths = uneven_lengths(comm.size(), unit);
        std::vector<float> expected;
        for (int r = 0; r < comm.size(); ++r)
            for (std::int64_t i = 0; i < lengths[std::size_t(r)]; ++i)
                expected.push_back(whole(r, i));
        std::vector<float> part;
        for (std::int64_t i = 0; i < lengths[std::size_t(comm.rank())]; ++i)
            part.push_back(whole(comm.rank(), i));
        std::vector<float> out(expected.size(), -1);
        comm.all_gather(Stream{}, view_of(part), lengths, view_of(out));
        EXPECT_EQ(out, expected);
    }
}

inline void gathers_nothing_from_nobody(Communicator& comm) {
    std::vector<float> nothing;
    comm.all_gather(Stream{}, view_of(nothing),
                    std::vector<std::int64_t>(std::size_t(comm.size()), 0), view_of(nothing));
    // Parts of no length need no memory either.
    std::vector<std::int64_t> lengths(std::size_t(comm.size()), 0);
    lengths[0] = 2;
    std::vector<float> two{4, 5};
    std::vector<float> out(2);
    comm.all_gather(Stream{}, comm.rank() == 0 ? view_of(two) : View(), lengths, view_of(out));
    EXPECT_EQ(out, two);
}

inline void gathers_into_place(Communicator& comm) {
    std::vector<bf16> out(std::size_t(comm.size()) * 3);
    View all = view_of(out);
    View mine = all.rows(comm.rank() * 3, 3);
    for (int i = 0; i < 3; ++i)
        mine.as<bf16>()[i] = to_bf16(whole(comm.rank(), i));
    comm.all_gather(Stream{}, mine, std::vector<std::int64_t>(std::size_t(comm.size()), 3), all);
    for (int r = 0; r < comm.size(); ++r)
        for (int i = 0; i < 3; ++i)
            EXPECT_EQ(to_float(out[std::size_t(r * 3 + i)]), whole(r, i));
}

inline void broadcasts_from_any_root(Communicator& comm) {
    for (int root = 0; root < comm.size(); ++root)
        for (std::int64_t n : {0, 1, 5000}) {
            std::vector<float> x(std::size_t(n), float(comm.rank()));
            comm.broadcast(Stream{}, view_of(x), root);
            EXPECT_EQ(x, std::vector<float>(std::size_t(n), float(root)));

            std::vector<std::byte> bytes(std::size_t(n), std::byte(comm.rank()));
            comm.broadcast_bytes(bytes, root);
            EXPECT_EQ(bytes, std::vector<std::byte>(std::size_t(n), std::byte(root)));
        }
}

inline void gathers_strings_of_any_length(Communicator& comm) {
    const auto string_of = [](int rank) {
        if (rank == 0)
            return std::string("zero\0byte inside", 16);
        return rank == 1 ? std::string() : std::string(std::size_t(rank) * 5000, char('a' + rank));
    };
    std::vector<std::string> expected;
    for (int r = 0; r < comm.size(); ++r)
        expected.push_back(string_of(r));
    EXPECT_EQ(comm.gather_strings(string_of(comm.rank())), expected);
    EXPECT_EQ(comm.gather_strings(""), std::vector<std::string>(std::size_t(comm.size())));
}

inline void waits_in_a_barrier(Communicator& comm) {
    for (int i = 0; i < 20; ++i)
        comm.barrier();
}

inline void splits_by_odd_and_even(Communicator& comm) {
    const int color = comm.rank() % 2;
    const auto group = comm.split(color);
    EXPECT_EQ(group->size(), (comm.size() + 1 - color) / 2);
    EXPECT_EQ(group->rank(), comm.rank() / 2);
    EXPECT_EQ(group->name(), comm.name());

    std::vector<double> ranks{double(comm.rank())};
    group->sum(ranks);
    double expected = 0;
    for (int r = color; r < comm.size(); r += 2)
        expected += r;
    EXPECT_EQ(ranks[0], expected);
    adds_messages_of_any_length(*group);

    // A group of a group, and the whole again.
    const auto alone = group->split(group->rank());
    EXPECT_EQ(alone->size(), 1);
    EXPECT_EQ(alone->rank(), 0);
    adds_messages_of_any_length(*alone);
    gathers_uneven_parts(*alone);
    const auto all = comm.split(5);
    EXPECT_EQ(all->size(), comm.size());
    EXPECT_EQ(all->rank(), comm.rank());
    gathers_uneven_parts(*all);
}

inline void counts_what_it_sends(Communicator& comm) {
    const auto group = comm.split(0);  // a fresh one, with nothing sent
    std::vector<float> x(100);
    std::vector<bf16> y(10);
    std::vector<double> z(3);
    std::vector<float> all(std::size_t(comm.size()) * 7), part(7), none;
    group->all_reduce_sum(Stream{}, view_of(x));
    group->all_reduce_sum(Stream{}, view_of(y));
    group->all_reduce_sum(Stream{}, view_of(none));
    group->sum(z);
    group->sum(z);
    group->all_gather(Stream{}, view_of(part),
                      std::vector<std::int64_t>(std::size_t(comm.size()), 7), view_of(all));
    group->broadcast(Stream{}, view_of(x), 0);
    group->broadcast_bytes(std::as_writable_bytes(std::span(z)), 0);
    group->gather_strings("four");
    group->barrier();

    const Communicator::Traffic traffic = group->traffic();
    const std::int64_t sent = comm.size() > 1;  // one rank alone sends nothing
    EXPECT_EQ(traffic.all_reduce_calls, 2 * sent);
    EXPECT_EQ(traffic.all_reduce_bytes, (400 + 20) * sent);
    EXPECT_EQ(traffic.statistics_bytes, 2 * 24 * sent);
    EXPECT_EQ(traffic.other_calls, 5 * sent);
    EXPECT_EQ(traffic.other_bytes, (28 + 400 + 24 + 4) * sent);
}

inline void refuses_what_it_cannot_add(Communicator& comm) {
    std::vector<double> x(4);
    EXPECT_THROW(comm.all_reduce_sum(Stream{}, View(x.data(), DType::F64, Shape{4})), Error);
    EXPECT_THROW(comm.broadcast_bytes({}, comm.size()), Error);
    EXPECT_THROW(comm.split(-1), Error);
}

struct NamedCase {
    const char* name;
    Case run;
};
inline void PrintTo(const NamedCase& c, std::ostream* out) { *out << c.name; }

inline constexpr NamedCase kCommunicatorCases[] = {
    {"KnowsItsRank", knows_its_rank},
    {"AddsMessagesOfAnyLength", adds_messages_of_any_length},
    {"AddsALargeMessage", adds_a_large_message},
    {"AddsBf16", adds_bf16},
    {"RoundsSumsOfBf16Once", rounds_sums_of_bf16_once},
    {"AddsInRankOrderWhateverTheLength", adds_in_rank_order_whatever_the_length},
    {"SumsHostValuesInRankOrder", sums_host_values_in_rank_order},
    {"GathersUnevenParts", gathers_uneven_parts},
    {"GathersNothingFromNobody", gathers_nothing_from_nobody},
    {"GathersIntoPlace", gathers_into_place},
    {"BroadcastsFromAnyRoot", broadcasts_from_any_root},
    {"GathersStringsOfAnyLength", gathers_strings_of_any_length},
    {"WaitsInABarrier", waits_in_a_barrier},
    {"SplitsByOddAndEven", splits_by_odd_and_even},
    {"CountsWhatItSends", counts_what_it_sends},
    {"RefusesWhatItCannotAdd", refuses_what_it_cannot_add},
};

// For NCCL, which promises no order of a sum, and no single rounding.
inline std::vector<NamedCase> cases_whatever_the_order() {
    std::vector<NamedCase> some;
    for (const NamedCase& c : kCommunicatorCases)
        if (c.run != adds_in_rank_order_whatever_the_length && c.run != rounds_sums_of_bf16_once)
            some.push_back(c);
    return some;
}

}  // namespace cake
