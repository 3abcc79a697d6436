#include "simt/copies.h"

#include <algorithm>
#include <utility>

namespace cake::simt {

void begin_copy(void* to, const void* from, const std::source_location& at) {
    if ((std::uintptr_t(to) | std::uintptr_t(from)) % 16 != 0)
        fail("cp_async16 of addresses that are no multiples of 16", at);
    Copies& c = copies();
    if (c.end == Copies::kRoom) {
        std::copy(c.pending + c.begin, c.pending + c.end, c.pending);
        c.end -= std::exchange(c.begin, 0);
        if (c.end == Copies::kRoom)
            fail("too many copies pending in one thread", at);
    }
    c.pending[c.end++] = {to, from, c.group};
}

void commit_copies() { ++copies().group; }

const PendingCopy* next_due_copy(int left) {
    Copies& c = copies();
    if (c.begin == c.end || c.pending[c.begin].group >= c.group - left)
        return nullptr;
    return &c.pending[c.begin++];
}

}  // namespace cake::simt
