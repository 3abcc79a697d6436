#include "text/stop.h"

#include <algorithm>
#include <utility>

namespace cake {

std::string StopMatcher::next(const std::string& piece) {
    if (stopped_)
        return {};
    held_ += piece;
    std::size_t found = std::string::npos;
    for (const std::string& stop : stops_)
        if (!stop.empty())
            found = std::min(found, held_.find(stop));
    if (found != std::string::npos) {
        stopped_ = true;
        std::string out = held_.substr(0, found);
        held_.clear();
        return out;
    }
    std::size_t hold = 0;  // the longest end of the text that begins a stop string
    for (const std::string& stop : stops_)
        for (std::size_t n = std::min(stop.size(), held_.size()); n > hold; --n)
            if (held_.compare(held_.size() - n, n, stop, 0, n) == 0)
                hold = n;
    std::string out = held_.substr(0, held_.size() - hold);
    held_.erase(0, out.size());
    return out;
}

std::string StopMatcher::finish() { return stopped_ ? std::string() : std::exchange(held_, {}); }

}  // namespace cake
