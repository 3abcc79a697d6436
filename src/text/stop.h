// Stop strings: text comes out as long as it cannot be the beginning of one.
#pragma once

#include <string>
#include <vector>

namespace cake {

class StopMatcher {
public:
    explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

    // Takes the next piece of text, returns what is certain to come before any stop string: what might become one is
    // held back until the next piece, also across borders of tokens.
    std::string next(const std::string& piece);
    // What was held back, where no stop string came of it.
    std::string finish();
    // A stop string has come; what follows it is dropped.
    bool stopped() const { return stopped_; }

private:
    std::vector<std::string> stops_;
    std::string held_;
    bool stopped_ = false;
};

}  // namespace cake
