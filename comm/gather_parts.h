// What every all_gather checks first.
#pragma once

#include <numeric>
#include <span>

#include "comm/communicator.h"

namespace cake {

struct GatherParts {
    std::int64_t first = 0;  // element of `out` at which this rank's part begins
    std::int64_t mine = 0;   // elements of this rank's part
    std::int64_t total = 0;  // of all; where it is 0 there is nothing to do
};

// Throws where `part`, `elements` and `out` do not fit together (Communicator::all_gather).
inline GatherParts check_gather(const Communicator& comm, View part,
                                std::span<const std::int64_t> elements, View out) {
    CAKE_CHECK(int(elements.size()) == comm.size(), "{} parts of {} ranks", elements.size(),
               comm.size());
    const auto mine = elements.begin() + comm.rank();
    const std::int64_t first = std::accumulate(elements.begin(), mine, std::int64_t(0));
    const GatherParts parts{first, *mine, std::accumulate(mine, elements.end(), first)};
    if (parts.total == 0)
        return parts;
    CAKE_CHECK(out.elements() == parts.total, "all_gather of {} elements into {}", parts.total,
               out.shape().str());
    CAKE_CHECK(parts.mine == 0 || (part.dtype() == out.dtype() && part.elements() == parts.mine),
               "rank {} gives {} of {} where {} of {} are due", comm.rank(), part.shape().str(),
               cake::name(part.dtype()), parts.mine, cake::name(out.dtype()));
    return parts;
}

}  // namespace cake
