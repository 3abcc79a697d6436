// Comparison of results with a reference in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "base/dtype.h"

namespace cake {

// |got - want| <= abs + rel * |want|
struct Tolerance {
    double abs = 0;
    double rel = 0;
    double around(double want) const { return abs + rel * std::abs(want); }
};

// Half a unit in the last place of a type, relative: what rounding to it may cost.
inline double rounding(DType dtype) {
    switch (dtype) {
        case DType::BF16: return 0x1p-8;
        case DType::F16: return 0x1p-11;
        case DType::F32: return 0x1p-24;
        default: return 0;
    }
}

// Matches a range of numbers, each near its own reference. Says how many are not, and which is
// worst.
//   EXPECT_THAT(download(dev, out), NearTo(want, {.abs = 1e-6, .rel = 1e-5}));
class NearToMatcher {
public:
    using is_gtest_matcher = void;
    NearToMatcher(std::vector<double> want, Tolerance tolerance)
        : want_(std::move(want)), tolerance_(tolerance) {}

    template <typename Range>
    bool MatchAndExplain(const Range& got, std::ostream* out) const {
        if (std::size(got) != want_.size()) {
            if (out)
                *out << "which has " << std::size(got) << " elements, not " << want_.size();
            return false;
        }
        std::size_t off = 0, worst = 0;
        double worst_excess = -1;
        for (std::size_t i = 0; i < want_.size(); ++i) {
            const double excess = excess_of(double(got[i]), want_[i]);
            off += excess > 1;
            if (excess > worst_excess) {
                worst_excess = excess;
                worst = i;
            }
        }
        if (off > 0 && out)
            *out << off << " of " << want_.size() << " are off, the worst by " << worst_excess
                 << " times what is allowed, [" << worst << "]: " << double(got[worst]) << ", not "
                 << want_[worst] << " +- " << tolerance_.around(want_[worst]);
        return off == 0;
    }
    void DescribeTo(std::ostream* out) const { describe(out, "is"); }
    void DescribeNegationTo(std::ostream* out) const { describe(out, "is not"); }

private:
    // Error as a multiple of what is allowed. Equal infinities are equal; NaN is near nothing.
    double excess_of(double got, double want) const {
        if (got == want)
            return 0;
        const double excess = std::abs(got - want) / tolerance_.around(want);
        return std::isfinite(excess) ? excess : INFINITY;
    }
    void describe(std::ostream* out, const char* verb) const {
        *out << verb << " near the reference (abs " << tolerance_.abs << ", rel " << tolerance_.rel
             << ")";
    }

    std::vector<double> want_;
    Tolerance tolerance_;
};

inline NearToMatcher NearTo(std::vector<double> want, Tolerance tolerance) {
    return NearToMatcher(std::move(want), tolerance);
}

}  // namespace cake
