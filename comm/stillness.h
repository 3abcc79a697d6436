// For how long nothing has moved, seen from time to time.
#pragma once

#include <algorithm>
#include <cstdint>

namespace cake {

// Between two looks at most `longest_step_s` counts: in more, who looks was itself stopped, or got no processor, and so
// may those have been who were to move.
class Stillness {
public:
    explicit Stillness(double longest_step_s) : longest_step_s_(longest_step_s) {}

    // `state`: any number that changes when something moves. `now_s`: of a clock that never goes back. Returns seconds.
    double look(double now_s, std::uint64_t state) {
        still_s_ = state == state_ ? still_s_ + std::min(now_s - looked_s_, longest_step_s_) : 0;
        state_ = state;
        looked_s_ = now_s;
        return still_s_;
    }

private:
    double longest_step_s_;
    double looked_s_ = 0, still_s_ = 0;
    std::uint64_t state_ = ~std::uint64_t(0);
};

}  // namespace cake
